"""Checks at public edges: errors that quote what was given and what was expected, before anything is compiled.

Values that are traced are not there yet: of those, shapes and types are checked alone.
"""

import json
import math
import numbers
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

SHOWN = 5  # rows that a message names
REAL = (jnp.floating, jnp.integer, jnp.bool_)


def is_concrete(*arrays: Any) -> bool:
  """Whether the values of all arrays, or trees of arrays, can be looked at: not while tracing, nor on other hosts."""
  unseen = jax.core.Tracer | jax.ShapeDtypeStruct
  seen = lambda leaf: not isinstance(leaf, unseen) and getattr(leaf, "is_fully_addressable", True)
  return all(map(seen, jax.tree.leaves(arrays)))


def describe(value: Any) -> str:
  """What a value is, for a message: "float32 [3, 4]" of an array, "a list" of anything else that holds values."""
  if hasattr(value, "dtype") and hasattr(value, "shape"):
    return f"{value.dtype} {list(value.shape)}"
  if isinstance(value, str | numbers.Number | None):
    return repr(value)
  kind = type(value).__name__
  return f"an {kind}" if kind[0] in "AEIOaeio" else f"a {kind}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
  """How many there are of something, for a message: "1 file", "2,000 files", "2 classes" where that is the plural."""
  return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def choice(name: str, value: Any, choices: Any):
  """Refuses what is not one of some choices: a `Literal`, or a sequence.

  Raises:
    ValueError: quoting it and them.
  """
  choices = get_args(choices) or tuple(choices)
  if not isinstance(value, str | numbers.Number | None) or value not in choices:
    raise ValueError(f"expected {name} to be one of {', '.join(map(repr, choices))}, got {value!r}")


def function(name: str, value: Any, example: str):
  """Refuses what cannot be called, such as what a call of it gives.

  Raises:
    TypeError: with what it is, and an example of what is expected.
  """
  if not callable(value):
    raise TypeError(f"expected {name} to be a function, {example}, got {describe(value)}")


def count(name: str, value: Any, least: int = 1, most: int | None = None):
  """Refuses what is not a whole number from `least` to `most`; `True` is none.

  Raises:
    ValueError: quoting it.
  """
  whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not whole or value < least or (most is not None and value > most):
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"expected {name} to be a whole number {bounds}, got {value!r}")


def flag(name: str, value: Any):
  """Refuses what is neither `True` nor `False`: a text such as "no" would count as true.

  Raises:
    ValueError: quoting it.
  """
  if not isinstance(value, bool | np.bool_):
    raise ValueError(f"expected {name} to be True or False, got {describe(value)}")


def flags(**values: Any):
  """`flag`, of several by their names."""
  for name, value in values.items():
    flag(name, value)


def text(name: str, value: Any):
  """Refuses what is no text.

  Raises:
    ValueError: quoting it.
  """
  if not isinstance(value, str):
    raise ValueError(f"expected {name} to be a text, got {describe(value)}")


def positive(name: str, value: Any) -> Any:
  """Refuses a number that is not above 0 and finite; a traced one passes.

  Returns:
    It, as `scalar` does.

  Raises:
    ValueError: quoting it.
  """
  if is_concrete(value) and not (_is_number(value) and 0 < _as_float(value) < math.inf):
    raise ValueError(f"expected {name} to be above 0, got {_quoted(value)}")
  return _as_float(value) if isinstance(value, int) else value


def in_range(name: str, value: Any, low: float, high: float):
  """Refuses a number that is not from `low` to `high`, as NaN is not; a traced one passes.

  Raises:
    ValueError: quoting it.
  """
  if is_concrete(value) and not (_is_number(value) and low <= _as_float(value) <= high):
    raise ValueError(f"expected {name} to be from {low} to {high}, got {_quoted(value)}")


def values(name: str, array: Any, low: float, high: float):
  """Refuses an array with a number outside a range; NaN is in none, and passes, as do traced values.

  Raises:
    ValueError: quoting the first one.
  """
  if is_concrete(array):
    found = np.asarray(array, np.float64)
    _check_values(name, found, (found < low) | (found > high), f"from {low} to {high}")


def scalar(name: str, value: Any) -> Any:
  """Refuses what is no real number, or array of shape [] that holds one; of a traced one the shape is known.

  Returns:
    It; a whole number of Python's, which may have more digits than an array's, as a `float`.

  Raises:
    ValueError: with what it is.
  """
  if not _is_number(value):
    raise ValueError(f"expected {name} to be a number, got {describe(value)}")
  return _as_float(value) if isinstance(value, int) else value


def floating(name: str, array: Any, *shape: Any):
  """Refuses what is not a floating array of a shape, in which a letter stands for any size: `("n", "d")`.

  `...` at the start of a shape stands for any axes.

  Raises:
    ValueError: with what it is.
  """
  _of_shape(name, array, shape, "floating", (jnp.floating,))


def real(name: str, array: Any, *shape: Any):
  """Refuses what is not an array of real numbers, booleans among them, of a shape as `floating` has it.

  Raises:
    ValueError: with what it is.
  """
  _of_shape(name, array, shape, "real numbers", REAL)


def to_numpy(name: str, values: Any, *shape: Any, dtype: Any = None) -> np.ndarray:
  """An array of real numbers of a shape as `floating` has it, or lists of them, in NumPy and of a type.

  Raises:
    ValueError: with what it is.
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
  """Refuses what is not an array of a shape of finite numbers of at least 0.

  Raises:
    ValueError: with what it is, or its first value that is none of these.
  """
  real(name, array, *shape)
  if is_concrete(array):
    values = np.asarray(array, np.float64)
    _check_values(name, values, ~(values >= 0) | np.isinf(values), "finite and of at least 0")


def shares(name: str, labels: Any):
  """Refuses labels `[..., ways]` with a row of numbers below 0, or of a sum above 1: one-hot rows, also times a weight.

  Raises:
    ValueError: quoting the first such row.
  """
  real(name, labels, ..., "ways")
  _check_ways(name, labels)
  if not is_concrete(labels):
    return
  rows = np.asarray(labels, np.float64).reshape(-1, labels.shape[-1])
  wrong = np.flatnonzero(~((rows >= 0).all(-1) & (rows.sum(-1) <= 1.01)))  # rounded to 16 bits
  if wrong.size:
    row = rows[wrong[0]].tolist()
    raise ValueError(f"expected one-hot {name}, or shares of a row that sum to 1 at most, got the row {row}")


def record(name: str, value: Any, kind: type, advice: str = ""):
  """Refuses what is not a value of a type, such as a `Network`.

  Raises:
    TypeError: with what it is.
  """
  if not isinstance(value, kind):
    raise TypeError(f"expected {name} to be a {kind.__name__}, got {describe(value)}" + (advice and f": {advice}"))


def integers(name: str, array: Any, *shape: int | str | None, low: int | None = None, high: int | None = None):
  """Refuses what is not an integer array of a shape with values from `low` to below `high`.

  Raises:
    ValueError: with what it is, or its first value that is out of range.
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


def finite(name: str, *arrays: Any, error: type[Exception] = ValueError):
  """Refuses arrays, or trees of arrays, that hold NaN or an infinity, naming the rows.

  Args:
    name: of what they are.
    arrays: with a leading axis of rows.
    error: what is raised; a scorer's is FloatingPointError.
  """
  for leaf in jax.tree.leaves(arrays):
    if not is_concrete(leaf) or not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
      continue
    fine = np.isfinite(np.asarray(leaf, np.float64))
    if not fine.all():
      raise error(f"expected {name} to be finite, got {_where(fine)}")


def not_finite(tree: Any) -> dict[str, float]:
  """What a tree holds that is not finite: `{path of a leaf: nan or inf}`, looked at where the arrays are.

  Typed keys, integers and traced values are none.
  """
  floats = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    concrete = isinstance(leaf, float | complex) or (hasattr(leaf, "dtype") and not isinstance(leaf, jax.core.Tracer))
    if concrete and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
      floats[jax.tree_util.keystr(path, simple=True, separator=".")] = leaf
  worst = jax.device_get(_worst(list(floats.values()))) if floats else []
  return {path: (math.inf, math.nan)[kind - 1] for path, kind in zip(floats, worst, strict=True) if kind}


def one_hot(name: str, labels: Any, dimensions: int | None = None):
  """Refuses labels `[..., n, ways]` that are neither one-hot nor all zero, which is padding.

  Raises:
    ValueError: with what they are, or the first such row.
  """
  is_real = _holds(labels, REAL)
  if not is_real or len(labels.shape) < 2 or dimensions not in (None, len(labels.shape)):
    given = f"an array of shape {list(labels.shape)}" if is_real else describe(labels)
    raise ValueError(f"expected one-hot {name} [n, ways], as jax.nn.one_hot(labels, ways) makes them, got {given}")
  _check_ways(name, labels)
  if not is_concrete(labels):
    return
  rows = np.asarray(labels).reshape(-1, np.shape(labels)[-1])
  ones, zeros = (rows == 1).sum(-1), (rows == 0).sum(-1)
  wrong = np.flatnonzero((ones > 1) | (ones + zeros < rows.shape[-1]))
  if wrong.size:
    row = rows[wrong[0]].tolist()
    raise ValueError(f"expected one-hot {name} (a single 1 in each row, or all zeros for padding), got the row {row}")


def local_path(name: str, path: Any) -> Path:
  """A path on this machine, with `~` as the home folder.

  Raises:
    ValueError: if it is a URL or a bucket, such as `gs://runs`, or no path.
  """
  if not isinstance(path, str | os.PathLike):
    raise ValueError(f"expected {name} to be a path, got {describe(path)}")
  given = os.fspath(path)
  if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", given):  # one slash: a Path of a URL has lost the other
    advice = "remote paths are not served yet, use a disk or a mounted bucket"
    raise ValueError(f"expected {name} to be a path on this machine, got {given!r}: {advice}")
  return Path(given).expanduser()


def parse_json(where: str, text: str | bytes, kind: type = dict) -> Any:
  """What a text in JSON holds that may be anybody's, however it is nested.

  Args:
    where: it stands, such as a file's name.
    text: a text, or UTF-8.
    kind: of what it is to hold.

  Raises:
    ValueError: if it is no JSON, is nested too deeply, names something twice, or holds another kind.
  """
  try:
    found = json.loads(text, object_pairs_hook=_each_once)
  except RecursionError:
    raise ValueError(f"{where!r} is no JSON file: it is nested too deeply") from None
  except ValueError as error:
    raise ValueError(f"{where!r} is no JSON file: {error}") from None
  if not isinstance(found, kind):
    raise ValueError(f"expected a {kind.__name__} in {where!r}, got {describe(found)}")
  return found


def _each_once(pairs):
  found = dict(pairs)
  if len(found) < len(pairs):
    seen = set()
    twice = next(name for name, _ in pairs if name in seen or seen.add(name))
    raise ValueError(f"{twice!r} is there twice")
  return found


def _holds(array: Any, kinds: Sequence) -> bool:
  """Whether something is an array of one of some kinds of numbers."""
  is_array = hasattr(array, "dtype") and hasattr(array, "shape")
  return is_array and any(jnp.issubdtype(array.dtype, kind) for kind in kinds)


def _of_shape(name: str, array: Any, shape: Sequence, kind: str, dtypes: Sequence):
  said = {None: "any", ...: "..."}
  wanted = f"[{', '.join(str(said.get(size, size)) for size in shape or (...,))}]"
  if not _holds(array, dtypes):
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


def _check_ways(name: str, labels: Any):
  """Refuses labels of no ways, and integers `[n, 1]`, which are classes' numbers: 0 and 1 would pass for one-hot."""
  if not np.shape(labels)[-1]:
    raise ValueError(f"expected {name} of at least 1 way, got an array of shape {list(np.shape(labels))}")
  if np.shape(labels)[-1:] == (1,) and jnp.issubdtype(getattr(labels, "dtype", float), jnp.integer):
    raise ValueError(f"expected one-hot {name} [n, ways], as jax.nn.one_hot(labels, ways) makes them, "
                     f"got {describe(labels)}, which may be the classes' numbers")  # fmt: skip


@jax.jit
def _worst(leaves):
  """2 of a leaf that holds NaN, 1 of one that holds infinity, else 0."""
  kind = lambda x: jnp.where(jnp.isnan(x), 2, jnp.isinf(x)).astype(jnp.int8)
  return jnp.stack([kind(x).max(initial=0) for x in leaves])


def _is_number(value) -> bool:
  if not hasattr(value, "dtype"):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
  return np.shape(value) == () and _holds(value, (jnp.floating, jnp.integer))


def _as_float(value) -> float:
  """Also of a whole number that is larger than any: infinite."""
  try:
    return float(value)
  except OverflowError:
    return math.inf if value > 0 else -math.inf


def _quoted(value) -> str:
  return str(value) if _is_number(value) else describe(value)


def _where(fine: np.ndarray) -> str:
  """How many rows are not finite, and which."""
  if not fine.ndim:
    return "a value that is not"
  bad = np.flatnonzero(~fine.reshape(len(fine), -1).all(-1))
  rows = ", ".join(map(str, bad[:SHOWN])) + (", ..." if len(bad) > SHOWN else "")
  return f"{len(bad)} of {len(fine)} rows that are not: {rows}"
