"""All pairs of rows, one tile at a time, on one device or with each device its own rows."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from metajax.mesh.devices import DATA, check_divides, device_count
from metajax.tree import leading_axis
from metajax.types import Array


class PairLayout(NamedTuple):
  """How the rows of a loss are spread over devices, and in which tiles their pairs are computed.

  Attributes:
    axis: the device axis over which they are spread; None: every row is here.
    ring: the other devices' rows come one device after the other; otherwise they are gathered at once.
    block_size: rows of one side of a tile, which divides the rows of a device.
  """

  axis: str | None
  ring: bool
  block_size: int

  @property
  def gathered(self) -> bool:
    return self.axis is not None and not self.ring


def over_rows(fn: Callable, shared: Any, rows: Any, *, whole: bool = False) -> Any:
  """`fn(axis, shared, rows)`, each device of the mesh its own `rows`, of which `axis` is the name; a value of all rows.

  Without a mesh of several devices `axis` is None, and `rows` are all rows. So they are with `whole`, on every device.

  Raises:
    ValueError: if the number of rows does not divide by the devices.
  """
  if device_count() == 1:
    return fn(None, shared, rows)
  if whole:
    return jax.shard_map(functools.partial(fn, None), in_specs=(P(), P()), out_specs=P())(shared, rows)
  check_divides(leading_axis(rows))
  return jax.shard_map(functools.partial(fn, DATA), in_specs=(P(), P(DATA)), out_specs=P())(shared, rows)


def axis_size(axis: str) -> int:
  """How many devices an axis has, inside the `shard_map` or `pmap` that names it.

  Raises:
    ValueError: outside of one.
  """
  try:
    return lax.axis_size(axis)
  except NameError:
    raise ValueError(
      f"expected axis_name to be an axis of the shard_map or pmap around, got {axis!r}; outside of one, leave it out"
    ) from None


def global_row_index(axis: str | None, count: int) -> Array:
  """The index among all devices' rows of each of this device's `count` rows."""
  first = 0 if axis is None else lax.axis_index(axis) * count
  return first + jnp.arange(count)


def psum_if_sharded(x: Any, rows: PairLayout) -> Array:
  """The sum over devices, where rows are sharded."""
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
    rows: the layout.
    own: per-row data of this device's rows, a tree of arrays.
    columns: per-row data of the columns, as `gather_columns` gives it.
    of_rows: initial values of what is accumulated for each row.
    of_columns: initial values of what is accumulated for each of this device's columns.

  Returns:
    `of_rows`, complete, and `of_columns`: complete on a ring, where it travels with its columns, and without an axis;
    otherwise partial sums over this device's rows: reduce them with `reduce_scatter_columns`.
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
    coming = pass_on(columns)  # on its way while these are met
    # Untied from the columns, what depends on this device's rows alone, a tile of them for each pair of tiles, would be
    # taken out of the loop over the devices by JAX, and all of it held.
    tied, columns = lax.optimization_barrier((own, columns))
    of_rows, of_columns = _all_pairs_here(visit, rows.block_size, tied, columns, of_rows, of_columns)
    return (coming, of_rows, pass_on(of_columns)), None

  return lax.scan(hop, (columns, of_rows, of_columns), length=devices)[0][1:]


def symmetric_all_pairs(visit: Callable, block_size: int, own: Any, of_rows: Any) -> Any:
  """`all_pairs` of rows with themselves, on one device, for a symmetric `visit`: each pair of tiles is visited once.

  Arguments are those of `all_pairs`; `visit` returns for the columns what it would return for them as rows. A tile with
  itself is visited whole, and the result for the rows counts.

  Returns:
    `of_rows`, complete.
  """
  (of_rows,) = as_varying((of_rows,), own)
  own, of_rows = _tiles(own, block_size), _tiles(of_rows, block_size)

  def two_tiles(of_rows, pair):
    i, j = pair
    of_row, of_column = visit(_at(own, i), _at(own, j), _at(of_rows, i), _at(of_rows, j))
    return _put(_put(of_rows, j, of_column), i, of_row), None  # the rows last: they count where i is j

  pairs = jnp.stack(jnp.triu_indices(jax.tree.leaves(own)[0].shape[0]), -1)
  return _flat(lax.scan(two_tiles, of_rows, pairs)[0])


def reduce_scatter_columns(tree: Any, rows: PairLayout) -> Any:
  """Sums over devices of per-column partial sums; each device keeps its own columns."""
  if not rows.gathered:
    return tree
  return jax.tree.map(lambda x: lax.psum_scatter(x, rows.axis, scatter_dimension=0, tiled=True), tree)


def reduce_scatter_logsumexp(largest: Array, sums: Array, rows: PairLayout) -> tuple[Array, Array]:
  """As `reduce_scatter_columns`, of sums of exponentials, each divided by the exponential of its own `largest`."""
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

  # One loop, and what is gathered in its carry: it is changed in place, where a loop in a loop would hold it twice.
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
  """Marks a replicated value as device-varying, as `like` is: the carry of a scan must keep its type.

  `where` on a device-varying predicate makes the type varying; XLA folds it away.
  """
  firsts = [x[(0,) * x.ndim] for x in jax.tree.leaves(like)]
  choice = functools.reduce(jnp.logical_and, [x == x for x in firsts])
  return jax.tree.map(lambda x: jnp.where(choice, x, x), tree)
