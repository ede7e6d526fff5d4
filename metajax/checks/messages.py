"""Descriptions of values for messages, and whether values are concrete."""

import numbers
from typing import Any

import jax

SHOWN = 5  # largest number of rows named in a message


def is_concrete(*arrays: Any) -> bool:
  """Whether the values of all arrays, or pytrees of arrays, are accessible: neither traced nor on other hosts."""
  unseen = jax.core.Tracer | jax.ShapeDtypeStruct

  def seen(leaf):
    return not isinstance(leaf, unseen) and getattr(leaf, "is_fully_addressable", True)

  return all(map(seen, jax.tree.leaves(arrays)))


def describe(value: Any) -> str:
  """A short description of a value for a message: "float32 [3, 4]" for an array, "a list" for other containers."""
  if hasattr(value, "dtype") and hasattr(value, "shape"):
    return f"{value.dtype} {list(value.shape)}"
  if isinstance(value, str | numbers.Number | None):
    return repr(value)
  kind = type(value).__name__
  return f"an {kind}" if kind[0] in "AEIOaeio" else f"a {kind}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
  """A number with its noun, for a message: "1 file", "2,000 files", or "2 classes" with a custom plural."""
  return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
