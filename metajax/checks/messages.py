"""What a message says of a value, and whether its values are known."""

import numbers
from typing import Any

import jax

SHOWN = 5  # rows that a message names


def is_concrete(*arrays: Any) -> bool:
  """Whether the values of all arrays, or trees of arrays, can be looked at: not while tracing, nor on other hosts."""
  unseen = jax.core.Tracer | jax.ShapeDtypeStruct

  def seen(leaf):
    return not isinstance(leaf, unseen) and getattr(leaf, "is_fully_addressable", True)

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
