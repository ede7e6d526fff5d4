"""Losses of a regression: outputs and targets in, a scalar out."""

import jax.numpy as jnp

from metajax import checks
from metajax.compose.heads import wide
from metajax.types import Array, Scalar


def squared_error(outputs: Array, targets: Array) -> Scalar:
  """The mean over rows and outputs of `(outputs - targets)^2`.

  Args:
    outputs: `[n, outputs]`.
    targets: `[n, outputs]`.

  Returns:
    A scalar in 32 bits at least.

  Raises:
    ValueError: if the shapes differ, so that nothing is broadcast in silence, there are no values, or they are not real
      numbers.
  """
  checks.real("outputs", outputs)
  checks.real("targets", targets)
  if jnp.shape(outputs) != jnp.shape(targets):
    raise ValueError(f"expected outputs {list(jnp.shape(targets))} like the targets, got {list(jnp.shape(outputs))}")
  if not jnp.size(outputs):
    raise ValueError(f"expected outputs of at least 1 value, got an array of shape {list(outputs.shape)}")
  return jnp.mean(jnp.square(wide(outputs) - wide(targets)))
