"""Ways to turn an embedding and a labelled support set into a classifier."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from metajax.types import Array

EMPTY_WAY = -1e9  # the logit of a way without support: never chosen, and finite, so that no gradient is lost


def nearest_centroid(embed: Callable) -> Callable:
  """A `predict` whose logits are minus the squared Euclidean distances to the centroids of the support's embeddings.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
  """

  def predict(params, state, support, inputs):
    return centroid_logits(embed(params, state, support.inputs), support.labels, embed(params, state, inputs))

  return predict


def centroid_logits(support: Array, labels: Array, queries: Array) -> Array:
  """`-|query - centroid_k|^2`, where `centroid_k` is the mean of the support embeddings of way `k`.

  Args:
    support: `[s, d]`.
    labels: one-hot `[s, ways]`; all-zero rows weigh nothing and a way without rows gets the logit -1e9.
    queries: `[n, d]`.

  Returns:
    `[n, ways]`.
  """
  counts = labels.sum(0)
  centroids = jnp.matmul(labels.T, support, precision=lax.Precision.HIGHEST) / jnp.maximum(counts, 1)[:, None]
  distances = squared_distances(queries, centroids)
  return jnp.where(counts > 0, -distances, max(EMPTY_WAY, float(jnp.finfo(distances.dtype).min)))


def squared_distances(first: Array, second: Array) -> Array:
  """`|first_i - second_j|^2`: `[n, d], [m, d] -> [n, m]`, without an array of size `n m d`.

  Both are centred first, since `|a|^2 + |b|^2 - 2 a b` loses digits where the common offset is large.
  """
  offset = lax.stop_gradient(second.mean(0))
  first, second = first - offset, second - offset
  products = jnp.matmul(first, second.T, precision=lax.Precision.HIGHEST)
  return jnp.square(first).sum(-1)[:, None] + jnp.square(second).sum(-1)[None] - 2 * products
