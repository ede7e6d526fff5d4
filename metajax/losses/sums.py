"""Weighted means, and sums of exponentials that are taken part by part."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Scalar

NO_LOGIT = -1e30  # of a pair that is none


def no_sums(tower: Array) -> tuple[Array, Array]:
  return jnp.full_like(tower[:, 0], NO_LOGIT), jnp.zeros_like(tower[:, 0])


def add_exponentials(
  so_far: tuple[Array, Array], logits: Array, axis: int, scale: Scalar | int = 1
) -> tuple[Array, Array]:
  """The largest logit of each row or column so far, and the sum of the exponentials of all, divided by its own.

  Logits are to be multiplied by the scale; the largest is not.
  """
  largest, sums = so_far
  new = lax.stop_gradient(jnp.maximum(largest, logits.max(axis)))
  added = jnp.exp(scale * (logits - jnp.expand_dims(new, axis))).sum(axis)
  return new, sums * jnp.exp(scale * (largest - new)) + added


def probabilities(logits: Array, largest: Array, weight: Array, axis: int, scale: Scalar | int = 1) -> Array:
  """The softmax over an axis of all logits, times weights: `weight` is divided by the sum that `add_exponentials` gave.

  The largest logit is taken off alone: off the logarithm of the sum, large logits would lose digits.
  """
  return jnp.expand_dims(weight, axis) * jnp.exp(scale * (logits - jnp.expand_dims(largest, axis)))


def present(values: Array, weights: Array) -> Array:
  return jnp.where(weights > 0, values, 0)


def as_weights(weights: Array, dtype: Any) -> Array:
  """Weights without a derivative; a negative one, which is refused where it is known, is NaN while tracing."""
  weights = lax.stop_gradient(jnp.asarray(weights, dtype))
  return jnp.where(weights >= 0, weights, jnp.nan)


def mean_of(weights: Array, values: Array) -> Scalar:
  return divide((weights * present(values, weights)).sum(), weights.sum())


def divide(total: Array, weight: Array) -> Array:
  """A mean over nothing is 0; by a weight of NaN it is NaN, and its gradient too."""
  return total / jnp.where(weight == 0, 1, weight)
