"""Logits of queries from embeddings and a labeled support set: arrays in, an array out, of at least 32 bits.

A support row without a label is padding: it has weight 0, whatever it holds. NaN in an embedding makes the logits that
depend on it NaN.
"""

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.similarity import cosines, squared_distances
from metajax.tree import wide
from metajax.types import Array, Scalar

EMPTY_WAY = -1e9  # logit of a way without support: never predicted, but finite, so that gradients survive


def ridge_logits(support: Array, labels: Array, queries: Array, l2: Scalar | float) -> Array:
  """Ridge regression to one-hot labels, in closed form: `queries W` with `W = (X' X + l2 I)^-1 X' Y`.

  The linear system has the smaller size of `s` and `d`, by Woodbury's identity `W = X' (X X' + l2 I)^-1 Y`.

  Args:
    support: `X`, `[s, d]`.
    labels: `Y`, one-hot `[s, ways]`; all-zero rows have weight 0, and a way without rows gets the logit -1e9.
    queries: `[n, d]`.
    l2: Strength of the L2 penalty, above 0.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: if embeddings are not floating `[s, d]` and `[n, d]`, labels are not one-hot `[s, ways]`, or `l2`
      is not above 0.
  """
  checks.scalar("l2", l2)
  l2 = checks.positive("l2", l2)
  support_features, labels, queries = checked(support, labels, queries)

  def product(a, b):
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

  rows, width = support_features.shape

  def regular(gram):
    whole = jnp.isfinite(gram).all()  # a solver would treat an infinity as a weight of 0
    return jnp.where(whole, gram, jnp.nan) + l2 * jnp.eye(gram.shape[0], dtype=gram.dtype)

  if not isinstance(rows, int) or rows <= width:  # a symbolic number, in an export, may have either size
    weights = product(
      support_features.T, jnp.linalg.solve(regular(product(support_features, support_features.T)), labels)
    )
  else:
    weights = jnp.linalg.solve(
      regular(product(support_features.T, support_features)), product(support_features.T, labels)
    )
  return without_empty_ways(product(queries, weights), labels)


def centroid_logits(support: Array, labels: Array, queries: Array) -> Array:
  """`-|query - centroid_k|^2`, where `centroid_k` is the mean of the support embeddings of way `k`.

  Args:
    support: `[s, d]`.
    labels: One-hot `[s, ways]`; all-zero rows have weight 0, and a way without rows gets the logit -1e9.
    queries: `[n, d]`.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: if embeddings are not floating `[s, d]` and `[n, d]`, or labels are not one-hot `[s, ways]`.
  """
  support_features, labels, queries = checked(support, labels, queries)
  return without_empty_ways(-squared_distances(queries, class_means(support_features, labels)), labels)


def centroid_cosines(support: Array, labels: Array, queries: Array) -> Array:
  """`cos(query, centroid_k)`, with the centroids, arguments and errors of `centroid_logits`."""
  support_features, labels, queries = checked(support, labels, queries)
  return without_empty_ways(cosines(queries, class_means(support_features, labels)), labels)


def nearest_logits(support: Array, labels: Array, queries: Array) -> Array:
  """`-min_{i of way k} |query - support_i|^2`: the negative squared distance to the nearest neighbor in each way.

  Arguments and errors are those of `centroid_logits`.
  """
  support_features, labels, queries = checked(support, labels, queries)
  return largest_by_way(-squared_distances(queries, support_features), labels)


def attention_logits(support: Array, labels: Array, queries: Array, scale: float = 1.0) -> Array:
  """`log sum_{i of way k} exp(scale cos(query, support_i))`; its softmax is the total attention per way.

  This equals the attention-weighted sum of one-hot labels (arXiv:1606.04080).

  Args:
    support, labels, queries: As for `centroid_logits`.
    scale: Factor of the cosines, above 0.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: as for `centroid_logits`, and if `scale` is not above 0.
  """
  checks.scalar("a scale", scale)
  scale = checks.positive("a scale", scale)
  support_features, labels, queries = checked(support, labels, queries)
  each = scale * cosines(queries, support_features)
  of_way = jnp.where(labels.T != 0, each[:, None], -jnp.inf)
  # Without this, a way without rows would have NaN gradients.
  of_way = jnp.where(labels.any(0)[:, None], of_way, 0)
  return without_empty_ways(jax.nn.logsumexp(of_way, axis=-1), labels)


def attention(scores: Array, labels: Array) -> Array:
  """The softmax of scores `[..., s]` over the labeled rows of `[s, ways]`; rows without a label get 0.

  Raises:
    ValueError: if scores are not floating, or labels are not one-hot `[s, ways]`.
  """
  checks.one_hot("labels", labels, 2)
  checks.floating("scores", scores, ..., labels.shape[0])
  there, scores = jnp.any(labels != 0, -1), wide(scores)
  largest = lax.stop_gradient(jnp.where(there, scores, lowest(scores)).max(-1, keepdims=True))
  weights = jnp.where(there, jnp.exp(jnp.where(there, scores - largest, 0)), 0)
  return weights / jnp.maximum(weights.sum(-1, keepdims=True), jnp.finfo(weights.dtype).tiny)


def class_means(support: Array, labels: Array) -> Array:
  """The mean features of each way: `[s, ..., d], one-hot [s, ways] -> [ways, ..., d]`; 0 for a way without rows.

  Means have the type of the features.

  Raises:
    ValueError: if features are not floating, or labels are not one-hot `[s, ways]`.
  """
  checks.one_hot("labels", labels, 2)
  checks.floating("support", support)
  checks.floating("support", support, labels.shape[0], *support.shape[1:])
  labels = wide(labels)
  counts = jnp.maximum(labels.sum(0), 1)
  rows = jnp.where(labels.any(-1, keepdims=True), wide(support).reshape(support.shape[0], -1), 0)
  means = jnp.matmul(labels.T, rows, precision=lax.Precision.HIGHEST) / counts[:, None]
  return means.reshape(labels.shape[1], *support.shape[1:]).astype(support.dtype)


def largest_by_way(scores: Array, labels: Array) -> Array:
  """The largest score of the support rows of each way: `[n, s], one-hot [s, ways] -> [n, ways]`.

  Raises:
    ValueError: if scores are not floating, or labels are not one-hot `[s, ways]`.
  """
  checks.one_hot("labels", labels, 2)
  checks.floating("scores", scores, "n", labels.shape[0])
  there = jnp.any(labels != 0, 0)[:, None]
  of_way = jnp.where(labels.T != 0, wide(scores)[:, None], jnp.where(there, -jnp.inf, 0))
  return without_empty_ways(of_way.max(-1, initial=-jnp.inf), labels)


def without_empty_ways(logits: Array, labels: Array) -> Array:
  """Sets the logits `[..., ways]` of ways without support to -1e9, or lower if another way's logit is close to that.

  Raises:
    ValueError: if logits are not floating, or labels are not one-hot `[s, ways]`.
  """
  checks.one_hot("labels", labels, 2)
  checks.floating("logits", logits, ..., labels.shape[1])
  return with_ways(logits, jnp.any(labels != 0, 0))


def with_ways(logits: Array, there: Array) -> Array:
  """`without_empty_ways`, given which ways have support: bool `[ways]`."""
  least = lax.stop_gradient(jnp.where(there, logits, 0)).min(-1, keepdims=True)
  below = jnp.maximum(jnp.minimum(lowest(logits), 2 * least), jnp.finfo(logits.dtype).min)
  return jnp.where(there, logits, below)


def lowest(logits: Array) -> float:
  """Returns -1e9, or the lowest finite number of the dtype if that is higher."""
  return max(EMPTY_WAY, float(jnp.finfo(logits.dtype).min))


def checked(support: Array, labels: Array, queries: Array) -> tuple[Array, Array, Array]:
  """Checks support, labels and queries, and widens them to at least 32 bits; unlabeled support rows become 0."""
  checks.one_hot("labels", labels, 2)
  checks.floating("support", support, labels.shape[0], "d")
  checks.floating("queries", queries, "n", support.shape[1])
  support_features = jnp.where(jnp.any(labels != 0, -1, keepdims=True), wide(support), 0)
  return support_features, wide(labels), wide(queries)
