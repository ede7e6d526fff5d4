"""Transductive information maximization: a classifier whose labels of the queries are certain and balanced."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from metajax import checks
from metajax.losses import cross_entropy
from metajax.predictors.logits import checked, class_means, without_empty_ways
from metajax.similarity import squared_distances, unit_rows
from metajax.types import Array, EmbedFn, PredictFn


def tim(
  embed: EmbedFn,
  *,
  learning_rate: float = 1e-4,
  steps: int = 1000,
  temperature: float = 15.0,
  weights: tuple[float, float, float] = (0.1, 1.0, 0.1),
) -> PredictFn:
  """Transductive information maximization by gradient descent (TIM-GD, arXiv:2008.11297); see `tim_logits`.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
    learning_rate, steps, temperature, weights: As for `tim_logits`.

  Returns:
    A `predict`, whose queries are classified together.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if a number is out of range.
  """
  checks.function("embed", embed, "(params, state, inputs) -> [n, d]")
  checks.positive("learning_rate", learning_rate)
  checks.positive("temperature", temperature)
  checks.count("steps", steps)
  if len(weights) != 3 or any(weight < 0 for weight in weights):
    raise ValueError(f"expected weights of three terms, each at least 0, got {weights}")

  def predict(params, state, support, inputs):
    checks.not_padded("tim", inputs)
    features, queries = embed(params, state, support.inputs), embed(params, state, inputs)
    return tim_logits(features, support.labels, queries, learning_rate, steps, temperature, weights)

  return predict


def tim_logits(
  support: Array,
  labels: Array,
  queries: Array,
  learning_rate: float = 1e-4,
  steps: int = 1000,
  temperature: float = 15.0,
  weights: tuple[float, float, float] = (0.1, 1.0, 0.1),
) -> Array:
  """Logits of a classifier that maximizes the mutual information of queries and labels (TIM-GD, arXiv:2008.11297).

  On rows `f` of norm 1, the classifier starts from the class means `w` of the support, and Adam minimizes

      w_0 cross_entropy(support) - w_1 H(mean_q p_q) + w_2 mean_q H(p_q),   p = softmax(-temperature / 2 |f - w_k|^2)

  Args:
    support: `[s, d]`.
    labels: One-hot `[s, ways]`; all-zero rows have weight 0, and a way without rows gets the logit -1e9.
    queries: `[n, d]`.
    learning_rate, steps: Of Adam, the paper's.
    temperature: Factor of the distances.
    weights: Weights of the cross-entropy, the entropy of the mean label, and the mean entropy of labels.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: if embeddings are not floating `[s, d]` and `[n, d]`, or labels are not one-hot `[s, ways]`.
  """
  support, labels, queries = checked(support, labels, queries)
  support, queries = unit_rows(support), unit_rows(queries)
  optimizer, means = optax.adam(learning_rate), class_means(support, labels)

  def logits(means, rows):
    return without_empty_ways(-temperature / 2 * squared_distances(rows, means), labels)

  def loss(means):
    log_p = jax.nn.log_softmax(logits(means, queries))
    marginal = jnp.exp(log_p).mean(0)
    of_mean = -(marginal * jnp.log(jnp.maximum(marginal, jnp.finfo(marginal.dtype).tiny))).sum()
    of_each = -(jnp.exp(log_p) * log_p).sum(1).mean()
    return weights[0] * cross_entropy(logits(means, support), labels) - weights[1] * of_mean + weights[2] * of_each

  def step(_, given):
    means, moments = given
    updates, moments = optimizer.update(jax.grad(loss)(means), moments, means)
    return optax.apply_updates(means, updates), moments

  means, _ = lax.fori_loop(0, steps, step, (means, optimizer.init(means)))
  return logits(means, queries)
