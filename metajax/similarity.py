"""Pairwise comparison of rows: unit vectors, cosines and squared distances."""

import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.tree import wide
from metajax.types import Array


def unit_rows(features: Array) -> Array:
  """`x / |x|` of each row, `[..., d] -> [..., d]`; lengths are computed in at least 32 bits.

  A row of zeros stays zero, and its gradient is 0. A row that holds NaN or an infinity becomes NaN.

  Raises:
    ValueError: if the features are not floating, or `d` is 0.
  """
  checks.floating("features", features, ..., "d")
  if not features.shape[-1]:
    raise ValueError(f"expected features of at least 1 value a row, got an array of shape {list(features.shape)}")
  rows = wide(features)
  size = lax.stop_gradient(jnp.abs(rows).max(-1, keepdims=True))
  scaled = rows / jnp.where(size == 0, 1, size)  # keeps squares from overflow and underflow
  squared = jnp.square(scaled).sum(-1, keepdims=True)
  unit = jnp.where(size == 0, 0, scaled * lax.rsqrt(jnp.where(size == 0, 1, squared)))
  return unit.astype(jnp.result_type(features))


def cosines(first: Array, second: Array) -> Array:
  """`cos(first_i, second_j)`: `[n, d], [m, d] -> [n, m]`; 0 for a row of zeros.

  Raises:
    ValueError: if the arguments are not floating, or their rows differ in length.
  """
  first, second = _rows(first, second)
  return jnp.matmul(unit_rows(first), unit_rows(second).T, precision=lax.Precision.HIGHEST)


def squared_distances(first: Array, second: Array) -> Array:
  """`|first_i - second_j|^2`: `[n, d], [m, d] -> [n, m]`, without an array of size `n m d`.

  Both are centered first, since `|a|^2 + |b|^2 - 2 a b` loses digits if the common offset is large.

  Raises:
    ValueError: if the arguments are not floating, or their rows differ in length.
  """
  first, second = _rows(first, second)
  offset = lax.stop_gradient(second.mean(0))
  first, second = first - offset, second - offset
  products = jnp.matmul(first, second.T, precision=lax.Precision.HIGHEST)
  return jnp.square(first).sum(-1)[:, None] + jnp.square(second).sum(-1)[None] - 2 * products


def _rows(first, second):
  """Checks that rows have the same length, and converts them to at least 32 bits."""
  checks.floating("the first rows", first, "n", "d")
  checks.floating("the second rows", second, "m", first.shape[1])
  return wide(first), wide(second)
