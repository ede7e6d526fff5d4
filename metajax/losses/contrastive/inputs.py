"""Rows, weights and temperatures as the losses take them, checked."""

from typing import Any

import jax.numpy as jnp

from metajax import checks
from metajax.losses.sums import as_weights
from metajax.similarity import unit_rows
from metajax.types import Array, Scalar


def two_towers(first: Array, second: Array, scale: Scalar, weights: Array | None) -> tuple[Array, Array, Array, None]:
  """The rows of two towers as `compute` takes them, the first one with the scale."""
  check_rows(first=first, second=second)
  if jnp.shape(first) != jnp.shape(second):
    raise ValueError(f"expected two towers of one shape, got {list(jnp.shape(first))} and {list(jnp.shape(second))}")
  weights = weights_of_rows(weights, first)
  scale = above_0("scale", scale, weights.dtype)
  first, second = (unit_or_zero(x, weights) for x in (first, second))
  return first * scale, second, counted(weights), None


def above_0(name: str, value: Scalar, dtype: Any) -> Scalar:
  """A number that is NaN where it is not above 0, of which one that is known is refused."""
  checks.scalar(name, value)
  value = checks.positive(name, value)
  value = jnp.asarray(value, dtype)
  return jnp.where(value > 0, value, jnp.nan)


def check_rows(**towers: Array):
  for name, x in towers.items():
    checks.floating(name, x, "n", "d")
    if 0 in x.shape:
      raise ValueError(f"expected {name} of at least 1 row and 1 value a row, got an array of shape {list(x.shape)}")


def weights_of_rows(weights: Array | None, like: Array) -> Array:
  """Weights of rows, in the type of the logits; NaN for a negative one."""
  kind = jnp.promote_types(jnp.result_type(like), jnp.float32)
  if weights is None:
    return jnp.ones(len(like), kind)
  checks.real("weights", weights)
  if jnp.shape(weights) != (len(like),):
    raise ValueError(f"expected weights [{len(like)}], one for each row, got {list(jnp.shape(weights))}")
  checks.weights("weights", weights)
  return as_weights(weights, kind)


def unit_or_zero(embeddings: Array, weights: Array) -> Array:
  """Rows of length 1, and zeros for padding, which may hold anything, in 32 bits at least; NaN for a weight of NaN."""
  of_row = weights[:, None]
  rows = jnp.where(jnp.isnan(of_row), jnp.nan, jnp.asarray(embeddings, weights.dtype))
  return unit_rows(jnp.where(of_row == 0, 0, rows))


def counted(weights: Array) -> Array:
  """Weights by which rows are counted: a row that has become NaN is among them, so that it is not passed over."""
  return jnp.where(jnp.isnan(weights), 1, weights)
