"""Predicates and conversions of pytree leaves."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from metajax.types import Array, Inputs, Padded


def is_floating(x: Any) -> bool:
  """Whether a value is a floating or complex number or array, and so differentiable."""
  return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def is_integer(x: Any) -> bool:
  """Whether an array holds integers."""
  return jnp.issubdtype(x.dtype, jnp.integer)


def is_key(x: Any) -> bool:
  """Whether a value is a typed key, `jax.random.key(seed)`, or an array of them."""
  dtype: Any = getattr(x, "dtype", None)
  return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def is_symbolic_zero(x: Any) -> bool:
  """Whether a value is a symbolic zero tangent, as passed to custom derivative rules."""
  return isinstance(x, SymbolicZero)


def wide(x: Any) -> Array:
  """Converts numbers to at least 32 bits, since 16 bits cannot hold sums and norms."""
  return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def values_of(inputs: Inputs) -> Inputs:
  """The values of `Padded` inputs; any other inputs unchanged."""
  return inputs.values if isinstance(inputs, Padded) else inputs


def padded_like(values: Any, inputs: Inputs) -> Inputs:
  """Values of the same rows as some inputs: `Padded` with their mask if these are, else unchanged."""
  return Padded(values, inputs.mask) if isinstance(inputs, Padded) else values


def leading_axis(tree: Any, least: int = 1) -> int:
  """The length of the leading axis, which all leaves must share.

  Raises:
    ValueError: if leaves differ in their leading axis, have none, or it is below `least`.
  """
  sizes = sorted({jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)})
  if len(sizes) != 1 or sizes[0] == () or sizes[0][0] < least:
    raise ValueError(f"expected every array of a batch to have the same leading axis of at least {least}, got {sizes}")
  return sizes[0][0]


def size_text(tree: Any) -> str:
  """The size of a pytree as text, by its shapes alone: "12 arrays, 113,088 numbers"."""
  leaves = jax.tree.leaves(tree)
  shapes = [leaf.shape for leaf in leaves if hasattr(leaf, "shape")]
  if len(shapes) < len(leaves) or not leaves:
    return f"{len(leaves)} leaves" if leaves else "empty"
  total: Any = sum(map(math.prod, shapes))
  numbers = f"{total:,}" if isinstance(total, int) else f"{total}"  # dimensions of an exported function are symbols
  return f"{len(leaves)} array{'s' * (len(leaves) > 1)}, {numbers} number{'s' * (numbers != '1')}"


def value_text(x: Any) -> str:
  """A number, or a few, as text; type and shape if the values cannot be read (traced, abstract, deleted)."""
  if not hasattr(x, "dtype"):
    return f"{x}" if isinstance(x, int | float | None) else type(x).__name__
  few = _is_readable(x) and x.size <= 8
  return str(np.asarray(x)) if few else f"{x.dtype}{list(x.shape)}"


def _is_readable(x: Any) -> bool:
  """Whether an array holds numbers that this process can read."""
  if isinstance(x, jax.core.Tracer) or is_key(x):
    return False
  if isinstance(x, jax.Array):
    return not x.is_deleted() and (x.is_fully_addressable or x.is_fully_replicated)
  return isinstance(x, np.ndarray | np.generic)
