"""Checks and conversions of rows, weights and temperatures."""

from typing import Any

import jax.numpy as jnp

from metajax import checks
from metajax.losses.sums import as_weights
from metajax.similarity import unit_rows
from metajax.types import Array, Scalar


def two_towers(first: Array, second: Array, scale: Scalar, weights: Array | None) -> tuple[Array, Array, Array, None]:
  """Returns the rows for `compute` from two towers; the first tower is multiplied by the scale."""
  check_rows(first=first, second=second)
  if jnp.shape(first) != jnp.shape(second):
    raise ValueError(f"expected two towers of one shape, got {list(jnp.shape(first))} and {list(jnp.shape(second))}")
  weights = weights_of_rows(weights, first)
  scale = above_0("scale", scale, weights.dtype)
  first, second = (unit_or_zero(x, weights) for x in (first, second))
  return first * scale, second, counted(weights), None


def above_0(name: str, value: Scalar, dtype: Any) -> Scalar:
  """Raises if a concrete number is not above 0; a traced one becomes NaN."""
  checks.scalar(name, value)
  value = checks.positive(name, value)
  value = jnp.asarray(value, dtype)
  return jnp.where(value > 0, value, jnp.nan)


def check_rows(**towers: Array):
  for name, x in towers.items():
    checks.floating(name, x, "n", "d")
    if 0 in x.shape:
      raise ValueError(f"expected {name} with at least 1 row and 1 column, got an array of shape {list(x.shape)}")


def weights_of_rows(weights: Array | None, like: Array) -> Array:
  """Returns row weights in the dtype of the logits; a negative traced weight becomes NaN."""
  kind = jnp.promote_types(jnp.result_type(like), jnp.float32)
  if weights is None:
    return jnp.ones(len(like), kind)
  checks.real("weights", weights)
  if jnp.shape(weights) != (len(like),):
    raise ValueError(f"expected weights [{len(like)}], one per row, got {list(jnp.shape(weights))}")
  checks.weights("weights", weights)
  return as_weights(weights, kind)


def unit_or_zero(embeddings: Array, weights: Array) -> Array:
  """Normalizes rows to length 1, in at least 32 bits; padding becomes 0, whatever it holds; weight NaN gives NaN."""
  of_row = weights[:, None]
  rows = jnp.where(jnp.isnan(of_row), jnp.nan, jnp.asarray(embeddings, weights.dtype))
  return unit_rows(jnp.where(of_row == 0, 0, rows))


def counted(weights: Array) -> Array:
  """Replaces weight NaN by 1: the row itself is NaN, and must count so that the loss becomes NaN."""
  return jnp.where(jnp.isnan(weights), 1, weights)
