"""Checks of single values: choices, integers, ranges, functions, records."""

import math
import numbers
from typing import Any, get_args

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from metajax.checks.arrays import holds
from metajax.checks.messages import describe, is_concrete


def choice(name: str, value: Any, choices: Any):
  """Raises unless a value is one of some choices: a `Literal`, or a sequence.

  Raises:
    ValueError: if it is not; the message quotes the value and the choices.
  """
  choices = get_args(choices) or tuple(choices)
  if not isinstance(value, str | numbers.Number | None) or value not in choices:
    raise ValueError(f"expected {name} to be one of {', '.join(map(repr, choices))}, got {value!r}")


def function(name: str, value: Any, example: str):
  """Raises unless a value is callable, e.g. if it is the result of a call instead.

  Raises:
    TypeError: if it is not; the message describes the value and an expected one.
  """
  if not callable(value):
    raise TypeError(f"expected {name} to be a function, {example}, got {describe(value)}")


def logger(name: str, value: Any, example: str = "(step, metrics)"):
  """Raises unless a value is a function; a context manager that would yield one is named as such.

  Raises:
    TypeError: if it is not.
  """
  if hasattr(value, "__enter__"):  # those of `contextlib` are callable
    raise TypeError(f"expected {name} to be a function (step, metrics), got a context manager: use `with ... as log`")
  function(name, value, example)


def count(name: str, value: Any, least: int = 1, most: int | None = None):
  """Raises unless a value is an integer from `least` to `most`; booleans do not count.

  A symbolic number, in an export, is unknown and passes.

  Raises:
    ValueError: if it is not; the message quotes the value.
  """
  if jax.export.is_symbolic_dim(value):
    return
  whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not whole or value < least or (most is not None and value > most):
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"expected {name} to be a whole number {bounds}, got {value!r}")


def flag(name: str, value: Any):
  """Raises unless a value is `True` or `False`: a string such as "no" would count as true.

  Raises:
    ValueError: if it is not; the message describes the value.
  """
  if not isinstance(value, bool | np.bool_):
    raise ValueError(f"expected {name} to be True or False, got {describe(value)}")


def flags(**values: Any):
  """`flag` for several values by name."""
  for name, value in values.items():
    flag(name, value)


def text(name: str, value: Any):
  """Raises unless a value is a string.

  Raises:
    ValueError: if it is not; the message describes the value.
  """
  if not isinstance(value, str):
    raise ValueError(f"expected {name} to be a text, got {describe(value)}")


def positive(name: str, value: Any) -> Any:
  """Raises unless a number is above 0 and finite; traced numbers pass.

  Returns:
    The number, as `scalar` does.

  Raises:
    ValueError: if it is not; the message quotes the value.
  """
  if is_concrete(value) and not (_is_number(value) and 0 < _as_float(value) < math.inf):
    raise ValueError(f"expected {name} to be above 0, got {_quoted(value)}")
  return _as_float(value) if isinstance(value, int) else value


def in_range(name: str, value: Any, low: float, high: float):
  """Raises unless a number is from `low` to `high`, which NaN is not; traced numbers pass.

  Raises:
    ValueError: if it is not; the message quotes the value.
  """
  if is_concrete(value) and not (_is_number(value) and low <= _as_float(value) <= high):
    raise ValueError(f"expected {name} to be from {low} to {high}, got {_quoted(value)}")


def scalar(name: str, value: Any) -> Any:
  """Raises unless a value is a real number, or an array of shape [] (possibly traced) of one.

  Returns:
    The value; a Python int, which may have more digits than an array can hold, as a `float`.

  Raises:
    ValueError: if it is not; the message describes the value.
  """
  if not _is_number(value):
    raise ValueError(f"expected {name} to be a number, got {describe(value)}")
  return _as_float(value) if isinstance(value, int) else value


def record(name: str, value: Any, kind: type, advice: str = ""):
  """Raises unless a value is an instance of a type, such as `Network`.

  Raises:
    TypeError: if it is not; the message describes the value.
  """
  if not isinstance(value, kind):
    raise TypeError(f"expected {name} to be a {kind.__name__}, got {describe(value)}" + (advice and f": {advice}"))


def _is_number(value) -> bool:
  if not hasattr(value, "dtype"):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
  return np.shape(value) == () and holds(value, (jnp.floating, jnp.integer))


def _as_float(value) -> float:
  """`float(value)`; infinite for an int that is too large."""
  try:
    return float(value)
  except OverflowError:
    return math.inf if value > 0 else -math.inf


def _quoted(value) -> str:
  return str(value) if _is_number(value) else describe(value)
