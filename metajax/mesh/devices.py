"""Devices: how many there are, and how batches and params are spread over them."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metajax.tree import is_key, leading_axis
from metajax.types import Batch, Params

DATA = "data"
FSDP = "fsdp"


def make_mesh(devices: int | None = None, *, fsdp: bool = False) -> Mesh:
  """A mesh over the first `devices` devices (all of them by default, of all hosts), along which batches are sharded.

  Args:
    devices: how many; of several hosts all.
    fsdp: fully sharded data parallel: parameters and the optimizer's state are sharded too, each array along the
      longest of its axes that the devices divide, and gathered where they are used. The default is a copy on every
      device.

  Raises:
    ValueError: if there are fewer devices, or those of several hosts are not all wanted.
  """
  count = jax.device_count() if devices is None else devices
  if not isinstance(count, numbers.Integral) or not 1 <= count <= jax.device_count():
    raise ValueError(f"expected 1 to {jax.device_count()} devices, the number there are, got {devices}")
  if jax.process_count() > 1 and count != jax.device_count():
    raise ValueError(f"expected all {jax.device_count()} devices of {jax.process_count()} hosts, got {devices}")
  # The second axis has one place on it: it only says, wherever the mesh is seen, that parameters are sharded.
  shape, names = ((count, 1), (DATA, FSDP)) if fsdp else ((count,), (DATA,))
  return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names), devices=jax.devices()[:count])


def devices_for(rows: int, devices: int | None = None) -> int:
  """How many devices to share a batch of `rows` between: as many as asked for, or the most that divide them.

  Several hosts share it between all of their devices.
  """
  if devices is not None or jax.process_count() > 1:
    return jax.device_count() if devices is None else devices
  return next(count for count in range(min(rows, jax.device_count()), 0, -1) if rows % count == 0)


def device_count() -> int:
  """How many devices a batch is sharded over here: 1 without a mesh, and inside someone's `shard_map`.

  Raises:
    ValueError: under a mesh of several devices that was not made by `make_mesh`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or mesh.manual_axes:
    return 1
  types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
  if types.get(DATA) != AxisType.Auto:
    raise ValueError(f"expected a mesh with an Auto axis {DATA!r}, as metajax.make_mesh makes it, got {types}")
  return mesh.shape[DATA]


def shard_batch(batch: Batch) -> Batch:
  """Host-local arrays `[rows, ...]` become global arrays sharded over the mesh; without a mesh, arrays on the device.

  With several hosts each gives its own rows and the global array has them all, in the order of the hosts.

  Raises:
    ValueError: if the leaves' leading axes differ, the global number of rows does not divide by the devices, or several
      hosts have no mesh.
  """
  rows = leading_axis(batch) * jax.process_count()
  if device_count() == 1:
    if jax.process_count() > 1:
      raise ValueError(f"expected a mesh over the devices of all {jax.process_count()} hosts, such as make_mesh()")
    return jax.tree.map(jnp.asarray, batch)
  check_divides(rows)
  sharding = NamedSharding(jax.sharding.get_mesh(), P(DATA))
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def shard_padded(batch: Batch, rows: int = 0) -> tuple[Batch, np.ndarray]:
  """`shard_batch` of any number of rows, even none on some hosts: filled up with zeros or copies of the last row.

  Args:
    batch: this host's rows.
    rows: fill up to as many on each host at least, so that one shape is compiled.

  Returns:
    The global arrays, and which of their rows, `[rows]`, are there in truth.

  Raises:
    ValueError: if the leaves' leading axes differ.
  """
  here, hosts = leading_axis(batch, least=0), jax.process_count()
  counts = np.array([here]) if hosts == 1 else multihost_utils.process_allgather(np.int32(here)).reshape(-1)
  local = device_count() // hosts
  each = -(-max(int(counts.max()), rows) // local) * local
  if each == here and hosts == 1:
    return shard_batch(batch), np.ones(here, bool)

  def fill(x):
    return np.concatenate(
      [x, np.repeat(x[-1:], each - here, 0) if here else np.zeros_like(x, shape=(each, *x.shape[1:]))]
    )

  padded = jax.tree.map(lambda x: fill(np.asarray(x)), batch)
  return shard_batch(padded), (np.arange(each) < counts[:, None]).reshape(-1)


def replicate(tree: Params) -> Params:
  """Every device of the mesh gets the whole of every leaf; without a mesh, arrays on the device."""
  if jax.sharding.get_abstract_mesh().empty:
    return jax.tree.map(jnp.asarray, tree)
  return jax.device_put(tree, NamedSharding(jax.sharding.get_mesh(), P()))


def to_host(tree: Any) -> Any:
  """Global arrays as whole NumPy arrays, on every host; typed keys as their words."""

  def whole(x):
    x = jax.random.key_data(x) if is_key(x) else x
    here = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
    return np.asarray(x if here else replicate(x))

  return jax.tree.map(whole, tree)


def sharded_axis(shape: tuple[int, ...]) -> int | None:
  """The axis along which an array of parameters is sharded: under `make_mesh(fsdp=True)` the longest that the devices
  divide, of equals the last; else None."""
  mesh, count = jax.sharding.get_abstract_mesh(), device_count()
  if mesh.empty or FSDP not in mesh.axis_names or count == 1:
    return None
  divided = [axis for axis, size in enumerate(shape) if size and size % count == 0]
  return max(divided, key=lambda axis: (shape[axis], axis), default=None)


def parameter_spec(shape: tuple[int, ...]) -> P:
  """How an array of parameters, or of an optimizer's state, is spread over the mesh."""
  axis = sharded_axis(shape)
  return P() if axis is None else P(*[None] * axis, DATA)


def shard_parameters(tree: Params) -> Params:
  """Parameters, or an optimizer's state, spread over the mesh as it says: copies, or under `fsdp` a part on each."""
  if jax.sharding.get_abstract_mesh().empty:
    return jax.tree.map(jnp.asarray, tree)

  def put(x):
    return jax.device_put(x, NamedSharding(jax.sharding.get_mesh(), parameter_spec(jnp.shape(x))))

  return jax.tree.map(put, tree)


def keep_sharded(tree: Params) -> Params:
  """While tracing: parameters stay as `shard_parameters` spreads them. Without `fsdp` it does nothing."""
  return jax.tree.map(lambda x: _constrained(x, parameter_spec(x.shape)) if _is_sharded(x) else x, tree)


def gather_params(tree: Params) -> Params:
  """While tracing: sharded parameters, whole on every device for as long as they are used. Without `fsdp` it does
  nothing."""
  return jax.tree.map(lambda x: _constrained(x, P()) if _is_sharded(x) else x, tree)


def _is_sharded(x) -> bool:
  return sharded_axis(jnp.shape(x)) is not None


def _constrained(x, spec):
  return lax.with_sharding_constraint(x, NamedSharding(jax.sharding.get_abstract_mesh(), spec))


def check_divides(rows: int):
  if rows % device_count():
    raise ValueError(f"expected a batch that divides by the {device_count()} devices of the mesh, got {rows} rows")
