"""Checks of arrays: dtype, shape, range, and finiteness."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks.messages import SHOWN, describe, is_concrete
from metajax.tree import is_floating

REAL = (jnp.floating, jnp.integer, jnp.bool_)


def values(name: str, array: Any, low: float, high: float):
  """Raises if an array has a value outside of a range; NaN and traced values pass.

  Raises:
    ValueError: if a value is out of range; the message quotes the first one.
  """
  if is_concrete(array):
    found = np.asarray(array, np.float64)
    _check_values(name, found, (found < low) | (found > high), f"from {low} to {high}")


def floating(name: str, array: Any, *shape: Any):
  """Raises unless a value is a floating array of a shape.

  Args:
    name: name of the array, for messages.
    array: value to check.
    *shape: sizes; a string stands for any size, as in `("n", "d")`, and a leading `...` for any axes.

  Raises:
    ValueError: if it is not; the message describes the value.
  """
  _of_shape(name, array, shape, "floating", (jnp.floating,))


def real(name: str, array: Any, *shape: Any):
  """Raises unless a value is an array of real numbers (or booleans) of a shape, given as for `floating`.

  Raises:
    ValueError: if it is not; the message describes the value.
  """
  _of_shape(name, array, shape, "real numbers", REAL)


def to_numpy(name: str, values: Any, *shape: Any, dtype: Any = None) -> np.ndarray:
  """Converts an array, or nested lists, of real numbers to a NumPy array of a dtype, and checks its shape.

  Args:
    name, shape: as for `floating`.
    values: an array or nested lists.
    dtype: dtype of the result; by default that of `values`.

  Returns:
    A NumPy array.

  Raises:
    ValueError: if values are not real numbers of that shape; the message describes them.
  """
  try:
    found = values if hasattr(values, "dtype") else np.asarray(values)
  except ValueError:  # lists of several lengths
    found = np.empty((), object)
  if not hasattr(values, "dtype") and found.dtype.kind not in "iuf":
    wanted = ", ".join(map(str, shape))
    raise ValueError(f"expected {name} to be real numbers [{wanted}], got {describe(values)}")
  real(name, found, *shape)
  return np.asarray(found, dtype)


def weights(name: str, array: Any, *shape: Any):
  """Raises unless a value is an array of finite numbers of at least 0, of a shape given as for `floating`.

  Raises:
    ValueError: if it is not; the message describes the array, or quotes its first bad value.
  """
  real(name, array, *shape)
  if is_concrete(array):
    values = np.asarray(array, np.float64)
    _check_values(name, values, ~(values >= 0) | np.isinf(values), "finite and of at least 0")


def integers(name: str, array: Any, *shape: int | str | None, low: int | None = None, high: int | None = None):
  """Raises unless a value is an integer array of a shape, with values from `low` to below `high`.

  Raises:
    ValueError: if it is not; the message describes the array, or quotes its first bad value.
  """
  _of_shape(name, array, shape, "integers", (jnp.integer,))
  if not is_concrete(array) or not np.size(array):
    return
  values = np.asarray(array)
  wrong = np.zeros(values.shape, bool)
  if low is not None:
    wrong |= values < low
  if high is not None:
    wrong |= values >= high
  _check_values(name, values, wrong, f"of at least {low}" if high is None else f"from {low} to {high - 1}")


def is_bytes(x: Any) -> bool:
  """Whether a leaf of a batch holds images as they are stored: uint8 `[..., n, height, width, channels]`."""
  return getattr(x, "dtype", None) == np.uint8 and x.ndim > 3


def not_bytes(name: str, tree: Any):
  """Raises if a pytree holds images as they are stored, which must be scaled to [0, 1] first.

  Raises:
    ValueError: naming the function that scales them.
  """
  for x in jax.tree.leaves(tree):
    if is_bytes(x):
      raise ValueError(
        f"expected {name} from 0 to 1, got uint8 {list(x.shape)}: metajax.images_to_float scales a batch of images"
      )


def finite(name: str, *arrays: Any, error: type[Exception] = ValueError):
  """Raises if arrays, or pytrees of arrays, hold NaN or an infinity; the message names the rows.

  Args:
    name: name of the arrays, for messages.
    *arrays: arrays with a leading axis of rows.
    error: exception type; evaluators use FloatingPointError.
  """
  for leaf in jax.tree.leaves(arrays):
    if not is_concrete(leaf) or not is_floating(leaf):
      continue
    fine = np.isfinite(np.asarray(leaf, np.float64))
    if not fine.all():
      raise error(f"expected {name} to be finite, got {_where(fine)}")


def not_finite(tree: Any) -> dict[str, float]:
  """The leaves of a pytree that are not finite: `{path of a leaf: nan or inf}`, computed on the arrays' devices.

  Typed keys, integers and traced values are ignored.
  """
  floats = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    concrete = isinstance(leaf, float | complex) or (hasattr(leaf, "dtype") and not isinstance(leaf, jax.core.Tracer))
    if concrete and is_floating(leaf):
      floats[jax.tree_util.keystr(path, simple=True, separator=".")] = leaf
  worst = jax.device_get(_worst(list(floats.values()))) if floats else []
  return {path: (math.inf, math.nan)[kind - 1] for path, kind in zip(floats, worst, strict=True) if kind}


def holds(array: Any, kinds: Sequence) -> bool:
  """Whether a value is an array whose dtype is of one of the given kinds."""
  is_array = hasattr(array, "dtype") and hasattr(array, "shape")
  return is_array and any(jnp.issubdtype(array.dtype, kind) for kind in kinds)


def _of_shape(name: str, array: Any, shape: Sequence, kind: str, dtypes: Sequence):
  said = {None: "any", ...: "..."}
  wanted = f"[{', '.join(str(said.get(size, size)) for size in shape or (...,))}]"
  if not holds(array, dtypes):
    raise ValueError(f"expected {name} to be {kind} {wanted}, got {describe(array)}")
  last = shape[1:] if shape[:1] == (...,) else shape
  there = array.shape[len(array.shape) - len(last) :] if last is not shape else array.shape
  fits = len(there) == len(last) and all(
    not isinstance(size, int) or size == found for size, found in zip(last, there, strict=True)
  )
  if shape and not fits:
    raise ValueError(f"expected {name} to be {kind} {wanted}, got {describe(array)}")


def _check_values(name: str, values: np.ndarray, wrong: np.ndarray, wanted: str):
  if wrong.any():
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise ValueError(f"expected {name} {wanted}, got {values[where]} at {list(where)}")


@jax.jit
def _worst(leaves):
  """For each leaf, 2 if it holds NaN, 1 if it holds an infinity, else 0."""

  def kind(x):
    return jnp.where(jnp.isnan(x), 2, jnp.isinf(x)).astype(jnp.int8)

  return jnp.stack([kind(x).max(initial=0) for x in leaves])


def _where(fine: np.ndarray) -> str:
  """The number of rows that are not finite, and the first of them, for a message."""
  if not fine.ndim:
    return "a value that is not"
  bad = np.flatnonzero(~fine.reshape(len(fine), -1).all(-1))
  rows = ", ".join(map(str, bad[:SHOWN])) + (", ..." if len(bad) > SHOWN else "")
  return f"{len(bad)} of {len(fine)} rows that are not: {rows}"
