"""Checks of one-hot labels, where an all-zero row is padding."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from metajax.checks.arrays import REAL, holds, real
from metajax.checks.messages import describe, is_concrete
from metajax.types import Padded


def shares(name: str, labels: Any):
  """Raises if a row of labels `[..., ways]` has a value below 0 or a sum above 1; weighted one-hot rows pass.

  Raises:
    ValueError: if there is such a row; the message quotes the first one.
  """
  real(name, labels, ..., "ways")
  _check_ways(name, labels)
  if not is_concrete(labels):
    return
  rows = np.asarray(labels, np.float64).reshape(-1, labels.shape[-1])
  wrong = np.flatnonzero(~((rows >= 0).all(-1) & (rows.sum(-1) <= 1.01)))  # tolerates rounding to 16 bits
  if wrong.size:
    row = rows[wrong[0]].tolist()
    raise ValueError(f"expected one-hot {name}, or shares of a row that sum to at most 1, got the row {row}")


def one_hot(name: str, labels: Any, dimensions: int | None = None):
  """Raises unless each row of labels `[..., n, ways]` is one-hot, or all zero (padding).

  Raises:
    ValueError: if the shape or type is another, or a row is neither; the message quotes the first one.
  """
  is_real = holds(labels, REAL)
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


def not_padded(name: str, *inputs: Any):
  """Raises if the inputs of a function in which every row counts are `Padded`.

  Raises:
    ValueError: naming the function.
  """
  if any(isinstance(one, Padded) for one in inputs):
    raise ValueError(f"expected no padded rows, each of which {name} would count, got Padded inputs")


def _check_ways(name: str, labels: Any):
  """Raises for 0 ways, and for integers `[n, 1]`: class indices 0 and 1 would otherwise pass for one-hot rows."""
  if not np.shape(labels)[-1]:
    raise ValueError(f"expected {name} of at least 1 way, got an array of shape {list(np.shape(labels))}")
  if np.shape(labels)[-1:] == (1,) and jnp.issubdtype(getattr(labels, "dtype", float), jnp.integer):
    raise ValueError(f"expected one-hot {name} [n, ways], as jax.nn.one_hot(labels, ways) makes them, "
                     f"got {describe(labels)}, which may be class indices")  # fmt: skip
