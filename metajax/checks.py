"""Checks at public edges: errors that quote what was given and what was expected, before anything is compiled.

Values that are traced are not there yet: of those, shapes and types are checked alone.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

SHOWN = 5  # rows that a message names


def is_concrete(*arrays: Any) -> bool:
  """Whether the values of all arrays, or trees of arrays, can be looked at."""
  return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays))


def describe(value: Any) -> str:
  """What a value is, for a message: "float32 [3, 4]" of an array, "a list" of anything else that holds values."""
  if hasattr(value, "dtype") and hasattr(value, "shape"):
    return f"{value.dtype} {list(value.shape)}"
  return repr(value) if isinstance(value, str | numbers.Number | None) else f"a {type(value).__name__}"


def choice(name: str, value: Any, choices: Any):
  """Refuses what is not one of some choices: a `Literal`, or a sequence.

  Raises:
    ValueError: quoting it and them.
  """
  choices = get_args(choices) or tuple(choices)
  if not isinstance(value, str | numbers.Number | None) or value not in choices:
    raise ValueError(f"expected {name} to be one of {', '.join(map(repr, choices))}, got {value!r}")


def count(name: str, value: Any, least: int = 1, most: int | None = None):
  """Refuses what is not a whole number from `least` to `most`; `True` is none.

  Raises:
    ValueError: quoting it.
  """
  whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not whole or value < least or (most is not None and value > most):
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"expected {name} to be a whole number {bounds}, got {value!r}")


def positive(name: str, value: Any):
  """Refuses a number that is not above 0 and finite; a traced one passes.

  Raises:
    ValueError: quoting it.
  """
  if is_concrete(value) and not (_is_number(value) and 0 < float(value) < math.inf):
    raise ValueError(f"expected {name} to be above 0, got {_quoted(value)}")


def in_range(name: str, value: Any, low: float, high: float):
  """Refuses a number that is not from `low` to `high`, as NaN is not; a traced one passes.

  Raises:
    ValueError: quoting it.
  """
  if is_concrete(value) and not (_is_number(value) and low <= float(value) <= high):
    raise ValueError(f"expected {name} to be from {low} to {high}, got {_quoted(value)}")


def floating(name: str, array: Any, *shape: int | str | None):
  """Refuses what is not a floating array of a shape, in which a letter stands for any size: `("n", "d")`.

  Raises:
    ValueError: with what it is.
  """
  _of_shape(name, array, shape, "floating", jnp.inexact)


def integers(name: str, array: Any, *shape: int | str | None, low: int | None = None, high: int | None = None):
  """Refuses what is not an integer array of a shape with values from `low` to below `high`.

  Raises:
    ValueError: with what it is, or its first value that is out of range.
  """
  _of_shape(name, array, shape, "integers", jnp.integer)
  if not is_concrete(array) or not np.size(array):
    return
  values = np.asarray(array)
  wrong = np.zeros(values.shape, bool)
  if low is not None:
    wrong |= values < low
  if high is not None:
    wrong |= values >= high
  if wrong.any():
    bounds = f"of at least {low}" if high is None else f"from {low} to {high - 1}"
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise ValueError(f"expected {name} {bounds}, got {values[where]} at {list(where)}")


def finite(name: str, *arrays: Any, error: type[Exception] = ValueError):
  """Refuses arrays, or trees of arrays, that hold NaN or an infinity, naming the rows.

  Args:
    name: of what they are.
    arrays: with a leading axis of rows.
    error: what is raised; a scorer's is FloatingPointError.
  """
  for leaf in jax.tree.leaves(arrays):
    if isinstance(leaf, jax.core.Tracer) or not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
      continue
    fine = np.isfinite(np.asarray(leaf, np.float64))
    if not fine.all():
      raise error(f"expected {name} to be finite, got {_where(fine)}")


def one_hot(name: str, labels: Any, dimensions: int | None = None):
  """Refuses labels `[..., n, ways]` that are neither one-hot nor all zero, which is padding.

  Raises:
    ValueError: quoting the first such row.
  """
  given = np.ndim(labels) if not hasattr(labels, "ndim") else labels.ndim
  if given < 2 or (dimensions is not None and given != dimensions):
    shape = f"an array of shape {list(np.shape(labels))}"
    raise ValueError(f"expected one-hot {name} [n, ways], as jax.nn.one_hot(labels, ways) makes them, got {shape}")
  if not is_concrete(labels):
    return
  rows = np.asarray(labels).reshape(-1, np.shape(labels)[-1])
  ones, zeros = (rows == 1).sum(-1), (rows == 0).sum(-1)
  wrong = np.flatnonzero((ones > 1) | (ones + zeros < rows.shape[-1]))
  if wrong.size:
    row = rows[wrong[0]].tolist()
    raise ValueError(f"expected one-hot {name} (a single 1 in each row, or all zeros for padding), got the row {row}")


def _of_shape(name: str, array: Any, shape: Sequence, kind: str, dtype):
  wanted = f"[{', '.join('any' if size is None else str(size) for size in shape)}]"
  if not hasattr(array, "dtype") or not hasattr(array, "shape"):
    raise ValueError(f"expected {name} to be {kind} {wanted}, got {describe(array)}")
  fits = len(array.shape) == len(shape) and all(
    not isinstance(size, int) or size == there for size, there in zip(shape, array.shape, strict=True)
  )
  if not jnp.issubdtype(array.dtype, dtype) or (shape and not fits):
    raise ValueError(f"expected {name} to be {kind} {wanted}, got {describe(array)}")


def _is_number(value) -> bool:
  return np.ndim(value) == 0 and not isinstance(value, str | bytes | bool | None) and np.isreal(value)


def _quoted(value) -> str:
  return str(value) if _is_number(value) else describe(value)


def _where(fine: np.ndarray) -> str:
  """How many rows are not finite, and which."""
  if not fine.ndim:
    return "a value that is not"
  bad = np.flatnonzero(~fine.reshape(len(fine), -1).all(-1))
  rows = ", ".join(map(str, bad[:SHOWN])) + (", ..." if len(bad) > SHOWN else "")
  return f"{len(bad)} of {len(fine)} rows that are not: {rows}"
