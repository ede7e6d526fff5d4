"""Losses of a regression: outputs and targets in, a scalar out."""

import jax.numpy as jnp

from metajax.types import Array, Scalar


def squared_error(outputs: Array, targets: Array) -> Scalar:
  """The mean over rows and outputs of `(outputs - targets)^2`.

  Args:
    outputs: `[n, outputs]`.
    targets: `[n, outputs]`.

  Raises:
    ValueError: if the shapes differ, so that nothing is broadcast in silence.
  """
  if jnp.shape(outputs) != jnp.shape(targets):
    raise ValueError(f"expected outputs {list(jnp.shape(targets))} like the targets, got {list(jnp.shape(outputs))}")
  return jnp.mean(jnp.square(outputs - targets))
