"""LP++ (arXiv:2404.02285): a linear probe of image features, blended with a text classifier."""

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.losses import cross_entropy
from metajax.predictors.image_text import check_embed, embedded
from metajax.predictors.logits import checked, class_means, without_empty_ways
from metajax.similarity import unit_rows
from metajax.types import Array, EmbedFn, PredictFn


def lp_plus_plus(embed: EmbedFn, *, steps: int = 300, text_every: int = 10, scale: float = 100.0) -> PredictFn:
  """LP++ (arXiv:2404.02285), a linear probe that learns how much of the text classifier to add to each class.

  It has no hyper-parameter to choose: the steps are as long as the data allow; see `lp_plus_plus_logits`.

  Args:
    embed: `(params, state, inputs) -> [n, d]` of images and of integer tokens, e.g. the `embed` of `learners.clip`.
    steps, text_every: As for `lp_plus_plus_logits`.
    scale: Factor of the cosines in zero-shot classification, above 0; CLIP's is 100.

  Returns:
    A `predict` for a support set of pairs, as of `zero_shot`.

  Raises:
    TypeError, ValueError: as for `zero_shot`, and if `steps` or `text_every` is below 1.
  """
  check_embed(embed, scale)
  checks.count("steps", steps)
  checks.count("text_every", text_every)

  def predict(params, state, support, inputs):
    features, texts = embedded(embed, params, state, support)
    queries = embed(params, state, inputs)
    return lp_plus_plus_logits(features, support.labels, queries, texts, steps, text_every, scale)

  return predict


def lp_plus_plus_logits(
  support: Array,
  labels: Array,
  queries: Array,
  texts: Array,
  steps: int = 300,
  text_every: int = 10,
  scale: float = 100.0,
) -> Array:
  """Logits of a linear probe whose weights blend images and texts (LP++, arXiv:2404.02285).

      logits_k(q) = q (w_k + alpha_k t_k),   minimize over w, alpha  mean_i cross_entropy(logits(f_i), y_i)

  on rows of norm 1, by block coordinate descent. `w` starts from the class means of the support, and every `alpha_k`
  from `2.5 scale` times the mean cosine of images and their class's text, the paper's 250 at CLIP's scale. Each step is
  `1 / L`, of `w` with `L = |F|^2 / 2s` by the spectral norm of the support and of `alpha` with
  `L = max_k sum_i (f_i t_k)^2 / 2s`: bounds of the second derivative, so no step raises the loss. (The paper
  approximates these bounds, and its code picks the best step on a validation set.)

  Args:
    support: `f`, `[s, d]`.
    labels: `y`, one-hot `[s, ways]`; all-zero rows have weight 0, and a way without rows gets the logit -1e9.
    queries: `q`, `[n, d]`.
    texts: `t`, `[ways, d]`.
    steps: Steps of `w`.
    text_every: Steps of `w` for each step of `alpha`.
    scale: Factor of the cosines in zero-shot classification.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: if embeddings are not floating `[s, d]`, `[n, d]` and `[ways, d]`, or labels are not one-hot.
  """
  support, labels, queries = checked(support, labels, queries)
  checks.floating("texts", texts, labels.shape[1], support.shape[1])
  rows, texts, queries = unit_rows(support), unit_rows(texts), unit_rows(queries)
  of_texts, there = rows @ texts.T, labels.any(0)
  own = (labels * of_texts).sum(0) / jnp.maximum(labels.sum(0), 1)
  alpha = jnp.full(labels.shape[1], 2.5 * scale * own.sum() / jnp.maximum(there.sum(), 1))
  twice = 2 * jnp.maximum(labels.sum(), 1)
  tiny = jnp.finfo(rows.dtype).tiny
  step_w = twice / jnp.maximum(jnp.square(jnp.linalg.norm(rows, 2)), tiny)
  step_alpha = twice / jnp.maximum(jnp.square(of_texts).sum(0).max(), tiny)

  def logits(w, alpha, rows):
    return without_empty_ways(rows @ w.T + alpha * (rows @ texts.T), labels)

  def loss(w, alpha):
    return cross_entropy(logits(w, alpha, rows), labels)

  def step(i, given):
    w, alpha = given
    w = w - step_w * jax.grad(loss)(w, alpha)
    moved = alpha - step_alpha * jax.grad(loss, argnums=1)(w, alpha)
    return w, jnp.where((i + 1) % text_every == 0, moved, alpha)

  w, alpha = lax.fori_loop(0, steps, step, (class_means(rows, labels), alpha))
  return logits(w, alpha, queries)
