"""Chooses how a loss over all pairs is computed: dense or tiled, on one device or several."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metajax import checks, mesh
from metajax.losses.sums import NO_LOGIT
from metajax.mesh import PairLayout
from metajax.platforms import platform
from metajax.types import Array, Scalar

Implementation = Literal["dense", "tiled", "sharded", "ring"]

LARGEST_DENSE = 1024  # rows
LARGEST_GATHERED = 2**30  # bytes
TILE = 2048  # rows per side on an accelerator, large enough to fill it
TILE_ON_CPU, TILE_OF_A_CORE = 512, 256  # sized for the cache: one device on all cores, and devices that share a CPU


class Computations(NamedTuple):
  """The two implementations of a loss.

  Attributes:
    dense: `(shared, rows) -> loss`, with all logits together.
    tiled: `(PairLayout, shared, rows) -> loss`, one tile at a time.
  """

  dense: Callable
  tiled: Callable


def are_pairs(of_rows: Array, of_columns: Array) -> Array:
  return (of_rows > 0)[:, None] & (of_columns > 0)


def pair_weights(of_rows: Array, of_columns: Array) -> Array:
  return jnp.where(are_pairs(of_rows, of_columns), (of_rows[:, None] + of_columns) / 2, 0)


def logits_of(first: Array, second: Array, pairs: Array) -> Array:
  return jnp.where(pairs, first @ second.T, NO_LOGIT)


def check_implementation(implementation: Implementation | None, most: int | None, axis_name: str | None):
  if implementation is not None:
    checks.choice("implementation", implementation, Implementation)
  if most is not None:
    checks.count("block_size", most)
  if axis_name is not None and implementation in ("dense", "tiled"):
    raise ValueError(f"expected implementation to be 'sharded' or 'ring' with an axis_name, got {implementation!r}")


def compute(
  loss: Computations,
  shared: Any,
  rows: tuple,
  implementation: Implementation | None,
  most: int | None,
  axis_name: str | None,
) -> Scalar:
  """Computes a loss by one of its two implementations.

  `rows` holds the towers `[n, d]`, weights `[n]`, and labels `[n]`, or None if rows `2 i` and `2 i + 1` form a class.
  """
  implementation = implementation or default_implementation(rows[0], axis_name)
  if implementation == "dense":
    return loss.dense(shared, rows)

  def local(axis, shared, rows):
    *rows, labels = rows
    place = mesh.global_row_index(axis, len(rows[0]))
    rows = (*rows, place // 2 if labels is None else labels, place)
    on_cpu = TILE_ON_CPU if axis is None else TILE_OF_A_CORE
    block_size = _tile(len(place), most or (on_cpu if platform() == "cpu" else TILE))
    padding = -len(place) % block_size
    rows = jax.tree.map(lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)), rows)
    return loss.tiled(PairLayout(axis, implementation == "ring", block_size), shared, rows)

  if axis_name is not None:
    return local(axis_name, shared, rows)
  return mesh.over_rows(local, shared, rows, whole=implementation == "tiled")


def default_implementation(tower: Array, axis_name: str | None) -> Implementation:
  """Returns the default implementation for the size of the loss and the number of devices that share its rows."""
  count, width = tower.shape
  if axis_name is not None:
    count *= mesh.axis_size(axis_name)
  elif mesh.device_count() == 1:
    return "dense" if count <= LARGEST_DENSE else "tiled"
  return "sharded" if count * width * tower.dtype.itemsize <= LARGEST_GATHERED else "ring"


def _tile(count, most) -> int:
  """Returns the rows per tile, a multiple of 8: as few tiles as possible, of equal size."""
  return 8 * math.ceil(count / math.ceil(count / most) / 8)
