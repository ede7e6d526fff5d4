"""Tip-Adapter (arXiv:2111.03930): a zero-shot classifier with a cache of the labeled images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.augment import augment_batch
from metajax.losses import cross_entropy
from metajax.predictors.image_text import check_embed, embedded
from metajax.predictors.logits import checked, without_empty_ways
from metajax.similarity import unit_rows
from metajax.tree import wide
from metajax.types import Adapt, Array, Augmentation, EmbedFn, PredictFn

ALPHAS = (1.0, 0.0, 0.25, 0.5, 2.0, 4.0, 8.0, 16.0)  # the first one is the paper's, as of BETAS
BETAS = (5.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def tip_adapter(
  embed: EmbedFn, *, alphas: Sequence[float] = ALPHAS, betas: Sequence[float] = BETAS, scale: float = 100.0
) -> PredictFn:
  """Tip-Adapter without training (arXiv:2111.03930); see `tip_adapter_logits`.

  `alpha` and `beta` are those of the least leave-one-out cross-entropy on the support set: each image is classified by
  the cache of all others, the evidence for its own class scaled up to the full number of examples. With one example a
  class nothing can be left out, and the first values are taken.

  Args:
    embed: `(params, state, inputs) -> [n, d]` of images and of integer tokens, e.g. the `embed` of `learners.clip`.
    alphas: Weights of the cache to choose from, each at least 0; 0 is zero-shot classification.
    betas: Sharpnesses of the cache to choose from, each above 0.
    scale: Factor of the cosines of images and texts, above 0; CLIP's is 100.

  Returns:
    A `predict` for a support set of pairs, as of `zero_shot`.

  Raises:
    TypeError, ValueError: as for `zero_shot`, and if `alphas` or `betas` is empty or out of range.
  """
  check_embed(embed, scale)
  _check_grid(alphas, betas)

  def predict(params, state, support, inputs):
    features, texts = embedded(embed, params, state, support)
    alpha, beta = leave_one_out_choice(features, support.labels, texts, alphas, betas, scale)
    return tip_adapter_logits(features, support.labels, embed(params, state, inputs), texts, alpha, beta, scale)

  return predict


def tip_adapter_f(
  embed: EmbedFn,
  adapt: Adapt,
  augmentation: Augmentation,
  *,
  alphas: Sequence[float] = ALPHAS,
  betas: Sequence[float] = BETAS,
  scale: float = 100.0,
) -> PredictFn:
  """Tip-Adapter-F (arXiv:2111.03930): Tip-Adapter whose keys are fine-tuned on augmented support images.

  The keys start from the features of the support; each step classifies the support images, augmented anew. `alpha` and
  `beta` are chosen as in `tip_adapter`, before. The paper's code takes the step that is best on the test set instead.

  Args:
    embed: As for `tip_adapter`.
    adapt: Inner loop of the keys, in the paper AdamW from 1e-3 along a cosine for 20 epochs:
      `gradient_steps(optax.adamw(optax.cosine_decay_schedule(1e-3, 20), eps=1e-4), 20, gradient="first_order")`.
    augmentation: `(key, image) -> image`, in the paper crops and flips.
    alphas, betas, scale: As for `tip_adapter`.

  Returns:
    A `predict` for a support set of pairs, as of `zero_shot`. The draws are the same in every task.

  Raises:
    TypeError, ValueError: as for `tip_adapter`, and if `adapt` or `augmentation` is not a function.
  """
  check_embed(embed, scale)
  _check_grid(alphas, betas)
  checks.function("adapt", adapt, "such as gradient_steps(optax.adamw(1e-3), 20)")
  checks.function("augmentation", augmentation, "(key, image) -> image")

  def predict(params, state, support, inputs):
    (features, texts), labels = embedded(embed, params, state, support), support.labels
    alpha, beta = leave_one_out_choice(features, labels, texts, alphas, betas, scale)

    def loss(keys, key):
      seen = unit_rows(wide(embed(params, state, augment_batch(augmentation, key, support.inputs.first))))
      return cross_entropy(_logits(keys, labels, seen, texts, alpha, beta, scale), labels)

    keys, _ = adapt(loss, features, jax.random.key(0))
    queries = unit_rows(wide(embed(params, state, inputs)))
    return _logits(keys, wide(labels), queries, texts, alpha, beta, scale)

  return predict


def tip_adapter_logits(
  support: Array,
  labels: Array,
  queries: Array,
  texts: Array,
  alpha: float | Array = 1.0,
  beta: float | Array = 5.5,
  scale: float = 100.0,
) -> Array:
  """Logits of a text classifier with a cache of labeled features (Tip-Adapter, arXiv:2111.03930).

      logits_k(q) = scale cos(q, t_k) + alpha sum_{i of way k} exp(-beta (1 - cos(q, f_i)))

  Args:
    support: `f`, `[s, d]`.
    labels: One-hot `[s, ways]`; all-zero rows have weight 0, and a way without rows gets the logit -1e9.
    queries: `q`, `[n, d]`.
    texts: `t`, `[ways, d]`.
    alpha: Weight of the cache.
    beta: Sharpness of the cache.
    scale: Factor of the cosines of images and texts.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: if embeddings are not floating `[s, d]`, `[n, d]` and `[ways, d]`, or labels are not one-hot.
  """
  support, labels, queries = checked(support, labels, queries)
  checks.floating("texts", texts, labels.shape[1], support.shape[1])
  return _logits(unit_rows(support), labels, unit_rows(queries), unit_rows(texts), alpha, beta, scale)


def _logits(keys, labels, queries, texts, alpha, beta, scale):
  cache = jnp.exp(-beta * (1 - queries @ keys.T)) @ labels
  return without_empty_ways(scale * queries @ texts.T + alpha * cache, labels)


def leave_one_out_choice(
  support: Array, labels: Array, texts: Array, alphas: Sequence[float], betas: Sequence[float], scale: float
) -> tuple[Array, Array]:
  """The `(alpha, beta)` of the least leave-one-out cross-entropy on the support set; see `tip_adapter`.

  Args:
    support, labels, texts, scale: As for `tip_adapter_logits`.
    alphas, betas: Values to choose from; the first ones if every way has one example.

  Returns:
    Two scalars.

  Raises:
    ValueError: as for `tip_adapter_logits`.
  """
  support, labels, _ = checked(support, labels, support)
  checks.floating("texts", texts, labels.shape[1], support.shape[1])
  rows, counts = unit_rows(support), labels @ labels.sum(0)  # of each row, the number of examples of its class
  left = jnp.where(labels != 0, (counts / jnp.maximum(counts - 1, 1))[:, None], 1)
  known = labels * (counts > 1)[:, None]
  of_texts = scale * rows @ unit_rows(texts).T

  def score(alpha, beta):
    affinity = jnp.exp(-beta * (1 - rows @ rows.T)) * (1 - jnp.eye(len(rows)))
    logits = without_empty_ways(of_texts + alpha * left * (affinity @ labels), labels)
    return -(known * jax.nn.log_softmax(logits)).sum()

  grid = jnp.array([(alpha, beta) for alpha in alphas for beta in betas])
  best = jnp.argmin(jax.lax.map(lambda one: score(*one), grid))
  return grid[best, 0], grid[best, 1]


def _check_grid(alphas, betas):
  for name, values, least in (("alphas", alphas, "at least 0"), ("betas", betas, "above 0")):
    if not len(values) or not all(value > 0 or (value == 0 and name == "alphas") for value in values):
      raise ValueError(f"expected one or more {name}, each {least}, got {tuple(values)}")
