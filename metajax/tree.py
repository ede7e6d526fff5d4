"""What all rooms ask of the leaves of a pytree."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from metajax.types import Array


def is_floating(x: Any) -> bool:
  """Whether it is a number or an array of floating or complex numbers: what can be differentiated."""
  return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def is_integer(x: Any) -> bool:
  """Whether an array is of integers."""
  return jnp.issubdtype(x.dtype, jnp.integer)


def is_key(x: Any) -> bool:
  """Whether it is a typed key, `jax.random.key(seed)`, or an array of them."""
  dtype: Any = getattr(x, "dtype", None)
  return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def is_symbolic_zero(x: Any) -> bool:
  """Whether it is a tangent that a rule of derivatives was told to be zero."""
  return isinstance(x, SymbolicZero)


def wide(x: Any) -> Array:
  """Numbers in 32 bits at least: what sums and norms are taken of, which 16 bits cannot hold."""
  return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def leading_axis(tree: Any, least: int = 1) -> int:
  """The length of the leading axis that all leaves have.

  Raises:
    ValueError: if they have none in common, of at least `least`.
  """
  sizes = sorted({jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)})
  if len(sizes) != 1 or sizes[0] == () or sizes[0][0] < least:
    raise ValueError(f"expected every array of a batch to have the same leading axis of at least {least}, got {sizes}")
  return sizes[0][0]
