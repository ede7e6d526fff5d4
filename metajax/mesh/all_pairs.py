"""Loops over all pairs of rows, one tile at a time, on one device or with rows sharded over devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from metajax.mesh.devices import check_divides
from metajax.mesh.placement import device_count, row_axes
from metajax.tree import leading_axis
from metajax.types import Array


class PairLayout(NamedTuple):
  """Layout of a loss's rows over devices, and the tile size of their pairs.

  Attributes:
    axis: Device axis that the rows are sharded over, or several together; None if every row is local.
    ring: Whether the other devices' rows arrive one device at a time; otherwise they are all-gathered.
    block_size: Rows per side of a tile; divides the number of rows per device.
  """

  axis: str | tuple[str, ...] | None
  ring: bool
  block_size: int

  @property
  def gathered(self) -> bool:
    return self.axis is not None and not self.ring


def over_rows(fn: Callable, shared: Any, rows: Any, *, whole: bool = False) -> Any:
  """Computes `fn(axis, shared, rows)` with `rows` sharded over the mesh; the result must be the same on every device.

  Args:
    fn: `(axis, shared, rows) -> value of all rows`. `axis` names the device axis and `rows` are this device's rows. On
      one device, and with `whole`, `axis` is None and `rows` are all rows.
    shared: Replicated arrays, a pytree.
    rows: Per-row arrays, a pytree with one leading axis.
    whole: Whether every device computes on all rows.

  Returns:
    The result of `fn`, replicated.

  Raises:
    ValueError: if the number of rows does not divide by the devices.
  """
  if device_count() == 1:
    return fn(None, shared, rows)
  if whole:
    return jax.shard_map(functools.partial(fn, None), in_specs=(P(), P()), out_specs=P())(shared, rows)
  check_divides(leading_axis(rows))
  axes = row_axes()
  return jax.shard_map(functools.partial(fn, axes), in_specs=(P(), P(axes)), out_specs=P())(shared, rows)


def axis_size(axis: str | tuple[str, ...]) -> int:
  """Returns the number of devices along an axis, inside the `shard_map` or `pmap` that names it.

  Raises:
    ValueError: if no enclosing `shard_map` or `pmap` names the axis.
  """
  try:
    return lax.axis_size(axis)
  except NameError:
    raise ValueError(
      f"expected axis_name to be an axis of the enclosing shard_map or pmap, got {axis!r}; outside of one, omit it"
    ) from None


def global_row_index(axis: str | tuple[str, ...] | None, count: int) -> Array:
  """Returns the global indices `[count]` of this device's `count` rows."""
  first = 0 if axis is None else lax.axis_index(axis) * count
  return first + jnp.arange(count)


def psum_if_sharded(x: Any, rows: PairLayout) -> Array:
  """Sums over devices if the rows are sharded; otherwise returns `x`."""
  return x if rows.axis is None else lax.psum(x, rows.axis)


def gather_columns(tree: Any, rows: PairLayout) -> Any:
  """Column-side copies of per-row data: all-gathered, unless the ring passes them around."""
  if not rows.gathered:
    return tree
  return jax.tree.map(lambda x: lax.all_gather(x, rows.axis, tiled=True), tree)


def all_pairs(
  visit: Callable, rows: PairLayout, own: Any, columns: Any, of_rows: Any, of_columns: Any
) -> tuple[Any, Any]:
  """Accumulates over all (row, column) pairs, one tile at a time.

  Args:
    visit: `(own, columns, of_rows, of_columns) -> (of_rows, of_columns)` for one tile; every tree has `block_size`
      rows.
    rows: The layout.
    own: Per-row data of this device's rows, a tree of arrays.
    columns: Per-row data of the columns, the result of `gather_columns`.
    of_rows: Initial accumulators per row.
    of_columns: Initial accumulators per column of this device.

  Returns:
    `(of_rows, of_columns)`. `of_rows` is complete. `of_columns` is complete without an axis and on a ring, where it
    travels with its columns; otherwise it holds partial sums over this device's rows: reduce them with
    `reduce_scatter_columns`.
  """
  own, columns, of_rows, of_columns = as_varying((own, columns, of_rows, of_columns), (own, columns))
  if rows.axis is None or not rows.ring:
    if rows.gathered:
      devices = lax.axis_size(rows.axis)
      of_columns = jax.tree.map(lambda x: jnp.tile(x, (devices, *[1] * (x.ndim - 1))), of_columns)
    return _all_pairs_here(visit, rows.block_size, own, columns, of_rows, of_columns)
  devices = lax.axis_size(rows.axis)
  onward = [(device, (device + 1) % devices) for device in range(devices)]

  def pass_on(tree):
    return jax.tree.map(lambda x: lax.ppermute(x, rows.axis, onward), tree)

  def hop(carried, _):
    columns, of_rows, of_columns = carried
    coming = pass_on(columns)  # sent while the current columns are processed
    # Without this barrier JAX would hoist everything that depends only on this device's rows (one tile of rows per pair
    # of tiles) out of the loop over devices, and hold all of it.
    tied, columns = lax.optimization_barrier((own, columns))
    of_rows, of_columns = _all_pairs_here(visit, rows.block_size, tied, columns, of_rows, of_columns)
    return (coming, of_rows, pass_on(of_columns)), None

  return lax.scan(hop, (columns, of_rows, of_columns), length=devices)[0][1:]


def symmetric_all_pairs(visit: Callable, block_size: int, own: Any, of_rows: Any) -> Any:
  """`all_pairs` of rows with themselves, on one device, for a symmetric `visit`: each pair of tiles is visited once.

  Arguments are those of `all_pairs`. `visit` must update a column exactly as it would update it as a row. On the
  diagonal a full tile is visited, and its result for the rows is kept.

  Returns:
    `of_rows`, complete.
  """
  (of_rows,) = as_varying((of_rows,), own)
  own, of_rows = _tiles(own, block_size), _tiles(of_rows, block_size)

  def two_tiles(of_rows, pair):
    i, j = pair
    of_row, of_column = visit(_at(own, i), _at(own, j), _at(of_rows, i), _at(of_rows, j))
    return _put(_put(of_rows, j, of_column), i, of_row), None  # rows last: they win where i == j

  pairs = jnp.stack(jnp.triu_indices(jax.tree.leaves(own)[0].shape[0]), -1)
  return _flat(lax.scan(two_tiles, of_rows, pairs)[0])


def reduce_scatter_columns(tree: Any, rows: PairLayout) -> Any:
  """Sums per-column partial sums over devices; each device keeps its share of the columns."""
  if not rows.gathered:
    return tree
  return jax.tree.map(lambda x: lax.psum_scatter(x, rows.axis, scatter_dimension=0, tiled=True), tree)


def reduce_scatter_logsumexp(largest: Array, sums: Array, rows: PairLayout) -> tuple[Array, Array]:
  """`reduce_scatter_columns` for log-sum-exp.

  Args:
    largest: Largest logit per column on this device, `[columns]`.
    sums: Sums of `exp(logit - largest)` per column, `[columns]`.
    rows: The layout.

  Returns:
    `(largest, sums)` over all devices, for this device's columns.
  """
  if not rows.gathered:
    return largest, sums
  common = lax.pmax(lax.stop_gradient(largest), rows.axis)
  sums = lax.psum(sums * jnp.exp(largest - common), rows.axis)
  count = len(sums) // lax.axis_size(rows.axis)

  def own(x):
    return lax.dynamic_slice_in_dim(x, lax.axis_index(rows.axis) * count, count)

  return own(common), own(sums)


def _all_pairs_here(visit, block_size, own, columns, of_rows, of_columns):
  own, of_rows = _tiles(own, block_size), _tiles(of_rows, block_size)
  columns, of_columns = _tiles(columns, block_size), _tiles(of_columns, block_size)

  def two_tiles(gathered, pair):
    (of_rows, of_columns), (i, j) = gathered, pair
    of_row, of_column = visit(_at(own, i), _at(columns, j), _at(of_rows, i), _at(of_columns, j))
    return (_put(of_rows, i, of_row), _put(of_columns, j, of_column)), None

  # One loop, with the accumulators in its carry: they are updated in place, while nested loops would hold them twice.
  rows, others = (jax.tree.leaves(tree)[0].shape[0] for tree in (own, columns))
  pairs = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(others), indexing="ij"), -1).reshape(-1, 2)
  return _flat(lax.scan(two_tiles, (of_rows, of_columns), pairs)[0])


def _tiles(tree, block_size):
  return jax.tree.map(lambda x: x.reshape((-1, block_size, *x.shape[1:])), tree)


def _flat(tree):
  return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), tree)


def _at(tree, i):
  return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), tree)


def _put(tree, i, new):
  return jax.tree.map(lambda x, y: lax.dynamic_update_index_in_dim(x, y, i, 0), tree, new)


def as_varying(tree: Any, like: Any) -> Any:
  """Marks a replicated value as device-varying if `like` is: the carry of a scan must keep its type.

  `where` on a device-varying predicate makes the type varying; XLA folds it away.
  """
  firsts = [x[(0,) * x.ndim] for x in jax.tree.leaves(like)]
  choice = functools.reduce(jnp.logical_and, [x == x for x in firsts])
  return jax.tree.map(lambda x: jnp.where(choice, x, x), tree)
