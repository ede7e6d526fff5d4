"""Logits of queries from embeddings and a labelled support set: arrays in, an array out."""

import jax
import jax.numpy as jnp
from jax import lax

from metajax.compose import unit_rows
from metajax.types import Array, Scalar

EMPTY_WAY = -1e9  # the logit of a way without support: never chosen, and finite, so that no gradient is lost


def ridge_logits(support: Array, labels: Array, queries: Array, strength: Scalar | float) -> Array:
  """`queries W` with `W = (X' X + strength I)^-1 X' Y`, in closed form: ridge regression to one-hot labels.

  The system solved is of the smaller of `s` and `d`, by Woodbury's identity `W = X' (X X' + strength I)^-1 Y`.

  Args:
    support: `X`, `[s, d]`.
    labels: `Y`, one-hot `[s, ways]`; all-zero rows weigh nothing and a way without rows gets the logit -1e9.
    queries: `[n, d]`.
    strength: of the penalty, above 0.

  Returns:
    `[n, ways]`, in 32 bits at least.

  Raises:
    ValueError: if `strength` is not above 0.
  """
  if not isinstance(strength, jax.core.Tracer) and not strength > 0:
    raise ValueError(f"expected a strength above 0, got {strength}")
  product = lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
  wide = lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))  # solvers have no narrower types
  support, labels, queries = wide(support), wide(labels), wide(queries)
  known = jnp.where(labels.any(-1, keepdims=True), support, 0)
  rows, width = known.shape
  regular = lambda gram: gram + strength * jnp.eye(len(gram), dtype=gram.dtype)
  if rows <= width:
    weights = product(known.T, jnp.linalg.solve(regular(product(known, known.T)), labels))
  else:
    weights = jnp.linalg.solve(regular(product(known.T, known)), product(known.T, labels))
  return without_empty_ways(product(queries, weights), labels)


def centroid_logits(support: Array, labels: Array, queries: Array) -> Array:
  """`-|query - centroid_k|^2`, where `centroid_k` is the mean of the support embeddings of way `k`.

  Args:
    support: `[s, d]`.
    labels: one-hot `[s, ways]`; all-zero rows weigh nothing and a way without rows gets the logit -1e9.
    queries: `[n, d]`.

  Returns:
    `[n, ways]`.
  """
  return without_empty_ways(-squared_distances(queries, class_means(support, labels)), labels)


def centroid_cosines(support: Array, labels: Array, queries: Array) -> Array:
  """`cos(query, centroid_k)`, with the centroids of `centroid_logits`: `[s, d], [s, ways], [n, d] -> [n, ways]`."""
  return without_empty_ways(cosines(queries, class_means(support, labels)), labels)


def nearest_logits(support: Array, labels: Array, queries: Array) -> Array:
  """`-min_{i of way k} |query - support_i|^2`, of the nearest neighbour in each way; arguments as `centroid_logits`."""
  return largest_by_way(-squared_distances(queries, support), labels)


def attention_logits(support: Array, labels: Array, queries: Array, scale: float = 1.0) -> Array:
  """`log sum_{i of way k} exp(scale cos(query, support_i))`, whose softmax is the attention that falls on each way.

  Arguments as `centroid_logits`; the sum over a way is the attention-weighted sum of one-hot labels (arXiv:1606.04080).
  """
  each = scale * cosines(queries, support)
  of_way = jnp.where(labels.T != 0, each[:, None], -jnp.inf)
  # Without this a way of no rows would have gradients that are not numbers.
  of_way = jnp.where(labels.any(0)[:, None], of_way, 0)
  return without_empty_ways(jax.nn.logsumexp(of_way, axis=-1), labels)


def attention(scores: Array, labels: Array) -> Array:
  """The softmax of scores `[..., s]` over the labelled rows of `[s, ways]`; rows without a label get 0."""
  there = labels.any(-1)
  largest = lax.stop_gradient(jnp.where(there, scores, lowest(scores)).max(-1, keepdims=True))
  weights = jnp.where(there, jnp.exp(jnp.where(there, scores - largest, 0)), 0)
  return weights / jnp.maximum(weights.sum(-1, keepdims=True), jnp.finfo(weights.dtype).tiny)


def class_means(support: Array, labels: Array) -> Array:
  """The mean features of each way: `[s, ..., d], one-hot [s, ways] -> [ways, ..., d]`; 0 for a way without rows."""
  counts = jnp.maximum(labels.sum(0), 1)
  rows = support.reshape(len(support), -1)
  means = jnp.matmul(labels.T, rows, precision=lax.Precision.HIGHEST) / counts[:, None]
  return means.reshape(-1, *support.shape[1:])


def largest_by_way(scores: Array, labels: Array) -> Array:
  """The largest score of the support rows of each way: `[n, s], one-hot [s, ways] -> [n, ways]`."""
  return jnp.where(labels.T != 0, scores[:, None], lowest(scores)).max(-1)


def cosines(first: Array, second: Array) -> Array:
  """`cos(first_i, second_j)`: `[n, d], [m, d] -> [n, m]`; 0 for a row of zeros."""
  return jnp.matmul(unit_rows(first), unit_rows(second).T, precision=lax.Precision.HIGHEST)


def squared_distances(first: Array, second: Array) -> Array:
  """`|first_i - second_j|^2`: `[n, d], [m, d] -> [n, m]`, without an array of size `n m d`.

  Both are centred first, since `|a|^2 + |b|^2 - 2 a b` loses digits where the common offset is large.
  """
  offset = lax.stop_gradient(second.mean(0))
  first, second = first - offset, second - offset
  products = jnp.matmul(first, second.T, precision=lax.Precision.HIGHEST)
  return jnp.square(first).sum(-1)[:, None] + jnp.square(second).sum(-1)[None] - 2 * products


def without_empty_ways(logits: Array, labels: Array) -> Array:
  """The logits `[n, ways]`, of a way without support -1e9."""
  return jnp.where(labels.any(0), logits, lowest(logits))


def lowest(logits: Array) -> float:
  """-1e9, or the lowest number of the type."""
  return max(EMPTY_WAY, float(jnp.finfo(logits.dtype).min))
