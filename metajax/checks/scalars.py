"""Single values: choices, whole numbers, ranges, functions, records."""

import math
import numbers
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np

from metajax.checks.arrays import holds
from metajax.checks.messages import describe, is_concrete


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


def record(name: str, value: Any, kind: type, advice: str = ""):
  """Refuses what is not a value of a type, such as a `Network`.

  Raises:
    TypeError: with what it is.
  """
  if not isinstance(value, kind):
    raise TypeError(f"expected {name} to be a {kind.__name__}, got {describe(value)}" + (advice and f": {advice}"))


def _is_number(value) -> bool:
  if not hasattr(value, "dtype"):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
  return np.shape(value) == () and holds(value, (jnp.floating, jnp.integer))


def _as_float(value) -> float:
  """Also of a whole number that is larger than any: infinite."""
  try:
    return float(value)
  except OverflowError:
    return math.inf if value > 0 else -math.inf


def _quoted(value) -> str:
  return str(value) if _is_number(value) else describe(value)
