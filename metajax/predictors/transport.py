"""Transductive prediction by optimal transport of the queries to the classes (PT-MAP, arXiv:2006.03806)."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import logsumexp

from metajax import checks
from metajax.predictors.logits import checked, class_means, without_empty_ways
from metajax.similarity import squared_distances, unit_rows
from metajax.types import Array, EmbedFn, PredictFn

EPSILON = 1e-6  # of the paper's power


def pt_map(
  embed: EmbedFn,
  *,
  power: float = 0.5,
  strength: float = 10.0,
  learning_rate: float = 0.2,
  steps: int = 20,
  sinkhorn_steps: int = 100,
) -> PredictFn:
  """Power transform and maximum a posteriori (PT-MAP, arXiv:2006.03806): transductive; see `pt_map_logits`.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
    power, strength, learning_rate, steps, sinkhorn_steps: As for `pt_map_logits`.

  Returns:
    A `predict`, whose queries are classified together.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if a number is out of range.
  """
  checks.function("embed", embed, "(params, state, inputs) -> [n, d]")
  for name, value in {"power": power, "strength": strength, "learning_rate": learning_rate}.items():
    checks.positive(name, value)
  checks.count("steps", steps)
  checks.count("sinkhorn_steps", sinkhorn_steps)

  def predict(params, state, support, inputs):
    checks.not_padded("pt_map", inputs)
    features, queries = embed(params, state, support.inputs), embed(params, state, inputs)
    return pt_map_logits(features, support.labels, queries, power, strength, learning_rate, steps, sinkhorn_steps)

  return predict


def pt_map_logits(
  support: Array,
  labels: Array,
  queries: Array,
  power: float = 0.5,
  strength: float = 10.0,
  learning_rate: float = 0.2,
  steps: int = 20,
  sinkhorn_steps: int = 100,
) -> Array:
  """Log probabilities by optimal transport, with equally many queries in each way (PT-MAP, arXiv:2006.03806).

  Rows are raised to a power, `sign(f) (|f| + 1e-6)^power`, scaled to norm 1, centered (the support and the queries by
  their own means), and scaled again. From the class means `m`, each step computes the transport plan `P` of the
  costs `|query - m_k|^2` by Sinkhorn's iterations, and moves

      m_k <- m_k + learning_rate (mean of the support of k and of the queries, weighted by P - m_k)

  The balance is part of the method: it helps if the ways have equally many queries, and harms if they do not.

  Args:
    support: `[s, d]`.
    labels: One-hot `[s, ways]`; all-zero rows have weight 0, and a way without rows gets the logit -1e9.
    queries: `[n, d]`.
    power: Power of the values, which the paper applies to features of a ReLU.
    strength: Divisor of the entropy: the larger, the harder the plan.
    learning_rate: Step size of the class means.
    steps: Number of their updates.
    sinkhorn_steps: Number of iterations for each plan.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: if embeddings are not floating `[s, d]` and `[n, d]`, or labels are not one-hot `[s, ways]`.
  """
  support, labels, queries = checked(support, labels, queries)
  support, queries = _raised(support, power), _raised(queries, power)
  known = labels.sum(1, keepdims=True)
  support = unit_rows(support - (known * support).sum(0) / jnp.maximum(known.sum(), 1))
  queries = unit_rows(queries - queries.mean(0))

  def plan(means):
    return _log_plan(without_empty_ways(-strength * squared_distances(queries, means), labels), labels, sinkhorn_steps)

  def update(_, means):
    weights = jnp.exp(plan(means))
    found = _product(labels, support) + _product(weights, queries)
    return means + learning_rate * (found / jnp.maximum(labels.sum(0) + weights.sum(0), EPSILON)[:, None] - means)

  means = lax.fori_loop(0, steps, update, class_means(support, labels))
  return without_empty_ways(jax.nn.log_softmax(plan(means)), labels)


def _raised(rows: Array, power: float) -> Array:
  return unit_rows(jnp.sign(rows) * (jnp.abs(rows) + EPSILON) ** power)


def _log_plan(log_plan: Array, labels: Array, steps: int) -> Array:
  """The logarithm of a transport plan: rows sum to 1, and each way with support has an equal share of them."""
  there = labels.any(0)
  share = jnp.where(there, jnp.log(len(log_plan) / jnp.maximum(there.sum(), 1)), -1e9)

  def scaled(_, log_plan):
    log_plan = log_plan - logsumexp(log_plan, 1, keepdims=True)
    return log_plan + share - logsumexp(log_plan, 0)

  return lax.fori_loop(0, steps, scaled, log_plan)


def _product(weights: Array, rows: Array) -> Array:
  return jnp.matmul(weights.T, rows, precision=lax.Precision.HIGHEST)
