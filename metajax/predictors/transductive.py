"""Transductive predictors on frozen embeddings: each query is classified with the help of the others.

Their logits depend on all queries of a call, so that they are compared only with other transductive predictors.
"""

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.predictors.logits import checked, class_means, without_empty_ways
from metajax.similarity import cosines, squared_distances
from metajax.types import Array, EmbedFn, PredictFn


def bd_cspn(embed: EmbedFn, scale: float = 10.0) -> PredictFn:
  """Prototype rectification (BD-CSPN, arXiv:1911.10713): transductive; see `rectified_logits`.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
    scale: Factor of cosines, above 0.

  Returns:
    A `predict`, whose queries are classified together.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if `scale` is not above 0.
  """
  checks.function("embed", embed, "(params, state, inputs) -> [n, d]")
  checks.positive("scale", scale)

  def predict(params, state, support, inputs):
    checks.not_padded("bd_cspn", inputs)
    features = embed(params, state, support.inputs)
    return rectified_logits(features, support.labels, embed(params, state, inputs), scale)

  return predict


def laplacian_shot(embed: EmbedFn, strength: float = 1.0, neighbors: int = 3, steps: int = 20) -> PredictFn:
  """Laplacian regularized few-shot classification (arXiv:2006.15486): transductive; see `laplacian_logits`.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
    strength: Strength of the Laplacian, at least 0.
    neighbors: Nearest queries of each that should have its label.
    steps: Number of bound updates.

  Returns:
    A `predict`, whose queries are classified together.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if a number is out of range; when called, if there are no more queries than neighbors.
  """
  checks.function("embed", embed, "(params, state, inputs) -> [n, d]")
  checks.in_range("strength", strength, 0, 1e6)
  checks.count("neighbors", neighbors)
  checks.count("steps", steps)

  def predict(params, state, support, inputs):
    checks.not_padded("laplacian_shot", inputs)
    features = embed(params, state, support.inputs)
    queries = embed(params, state, inputs)
    return laplacian_logits(features, support.labels, queries, strength, neighbors, steps)

  return predict


def rectified_logits(support: Array, labels: Array, queries: Array, scale: float = 10.0) -> Array:
  """`scale cos(query, prototype_k)`, of prototypes that the queries have corrected (arXiv:1911.10713).

  Queries are shifted so that their mean is that of the support. Each is given to the nearest class mean `m_k` by
  cosine. The prototype of a way is then the mean of its support rows and queries `x`, with weights that are
  proportional to `exp(scale cos(x, m_k))`.

  Args:
    support: `[s, d]`.
    labels: One-hot `[s, ways]`; all-zero rows have weight 0, and a way without rows gets the logit -1e9.
    queries: `[n, d]`.
    scale: Factor of cosines.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: if embeddings are not floating `[s, d]` and `[n, d]`, or labels are not one-hot `[s, ways]`.
  """
  features, labels, queries = checked(support, labels, queries)
  queries = queries + features.sum(0) / jnp.maximum(labels.sum(), 1) - queries.mean(0)
  means = class_means(features, labels)
  near = without_empty_ways(cosines(queries, means), labels)
  members = jnp.concatenate([labels, jax.nn.one_hot(near.argmax(-1), labels.shape[1], dtype=labels.dtype)])
  rows = jnp.concatenate([features, queries])
  weights = members * jnp.exp(scale * (cosines(rows, means) - 1))
  total = jnp.maximum(weights.sum(0), jnp.finfo(weights.dtype).tiny)
  prototypes = jnp.matmul(weights.T, rows, precision=lax.Precision.HIGHEST) / total[:, None]
  return without_empty_ways(scale * cosines(queries, prototypes), labels)


def laplacian_logits(
  support: Array, labels: Array, queries: Array, strength: float = 1.0, neighbors: int = 3, steps: int = 20
) -> Array:
  """Logits whose softmax `y` is smooth on the graph of nearest queries (LaplacianShot, arXiv:2006.15486).

  With `a_qk = |query_q - m_k|^2` for the class means `m`, and N(q) the nearest queries of query `q`:

      y_q <- softmax(-a_q + strength sum_{p in N(q)} y_p),   from y_q = softmax(-a_q)

  Args:
    support, labels, queries: As for `rectified_logits`.
    strength: Strength of the Laplacian.
    neighbors: Nearest queries of each, fewer than there are queries.
    steps: Number of updates.

  Returns:
    `[n, ways]`.

  Raises:
    ValueError: as for `rectified_logits`, and if there are no more queries than neighbors.
  """
  features, labels, queries = checked(support, labels, queries)
  if queries.shape[0] <= neighbors:
    raise ValueError(f"expected more than {neighbors} queries, the neighbors of each, got {queries.shape[0]}")
  unary = without_empty_ways(-squared_distances(queries, class_means(features, labels)), labels)
  between = squared_distances(queries, queries)
  between = jnp.where(jnp.eye(len(queries), dtype=bool), jnp.inf, between)
  _, nearest = lax.top_k(-between, neighbors)

  def update(_, y):
    return unary + strength * jax.nn.softmax(y)[nearest].sum(1)

  return lax.fori_loop(0, steps, update, unary)
