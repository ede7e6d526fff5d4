"""Weighted means, and streaming sums of exponentials."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Scalar

NO_LOGIT = -1e30  # logit of a masked pair


def no_sums(tower: Array) -> tuple[Array, Array]:
  return jnp.full_like(tower[:, 0], NO_LOGIT), jnp.zeros_like(tower[:, 0])


def add_exponentials(
  so_far: tuple[Array, Array], logits: Array, axis: int, scale: Scalar | int = 1
) -> tuple[Array, Array]:
  """Updates the largest logit per row or column, and the sum of `exp(scale * (logit - largest))`.

  The stored largest logit is not multiplied by the scale.
  """
  largest, sums = so_far
  new = lax.stop_gradient(jnp.maximum(largest, logits.max(axis)))
  added = jnp.exp(scale * (logits - jnp.expand_dims(new, axis))).sum(axis)
  return new, sums * jnp.exp(scale * (largest - new)) + added


def probabilities(logits: Array, largest: Array, weight: Array, axis: int, scale: Scalar | int = 1) -> Array:
  """The weighted softmax over an axis, where `weight` is already divided by the sum from `add_exponentials`.

  Only the largest logit is subtracted: subtracting the log of the sum would lose digits of large logits.
  """
  return jnp.expand_dims(weight, axis) * jnp.exp(scale * (logits - jnp.expand_dims(largest, axis)))


def present(values: Array, weights: Array) -> Array:
  return jnp.where(weights > 0, values, 0)


def as_weights(weights: Array, dtype: Any) -> Array:
  """Returns weights without a derivative; while tracing, when they cannot be checked, negative ones become NaN."""
  weights = lax.stop_gradient(jnp.asarray(weights, dtype))
  return jnp.where(weights >= 0, weights, jnp.nan)


def mean_of(weights: Array, values: Array) -> Scalar:
  return divide((weights * present(values, weights)).sum(), weights.sum())


def divide(total: Array, weight: Array) -> Array:
  """Divides a total by a weight: 0 if the weight is 0; NaN, and so is its gradient, if the weight is NaN."""
  return total / jnp.where(weight == 0, 1, weight)
