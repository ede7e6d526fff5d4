"""Device meshes, and the sharding of batches and parameters."""

import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metajax.mesh.placement import DATA, FSDP, MODEL, device_count, row_axes
from metajax.tree import is_key, leading_axis
from metajax.types import Batch, Params


def make_mesh(devices: int | None = None, *, fsdp: bool | int = False, model: int = 1) -> Mesh:
  """Makes the mesh that batches are sharded over: the first `devices` devices, by default all devices of all hosts.

  Args:
    devices: Number of devices. With several hosts it must be the total number of devices, or on CPUs a multiple of the
      number of hosts.
    fsdp: Fully sharded data parallel: parameters and the optimizer's state are sharded too, each array along its
      longest axis that is divisible by this number of devices, and gathered at each use. True shards them over all
      devices of a slice; by default they are replicated.
    model: Tensor parallel: number of devices that share the heads and hidden units of each transformer layer.

  Returns:
    A mesh for `jax.set_mesh`, with the axis "data", with `fsdp` also "fsdp", and with `model` above 1 also "model".
    Batches are sharded over "data" and "fsdp" together; slices that a slow network joins differ along "data".

  Raises:
    ValueError: if `devices` is not an integer from 1 to the number of devices, `fsdp` or `model` does not divide it, or
      several hosts do not use all devices.

  Example:
    >>> import jax
    >>> from metajax import make_mesh
    >>> mesh = make_mesh(1)
    >>> with jax.set_mesh(mesh):  # batches are sharded over the mesh in here
    ...   mesh.axis_names, mesh.size
    (('data',), 1)
  """
  count = jax.device_count() if devices is None else devices
  if not isinstance(count, numbers.Integral) or not 1 <= count <= jax.device_count():
    raise ValueError(f"expected 1 to {jax.device_count()} devices, the number available, got {devices}")
  hosts = jax.process_count()
  if hosts > 1 and count != jax.device_count() and (jax.default_backend() != "cpu" or count % hosts):
    raise ValueError(f"expected all {jax.device_count()} devices of {hosts} hosts, got {devices}")
  return mesh_over(_of_every_host(count // hosts), fsdp=fsdp, model=model)


def mesh_over(devices: Sequence[jax.Device], *, fsdp: bool | int = False, model: int = 1) -> Mesh:
  """Returns the mesh of `make_mesh` over given devices, which need not be there; slices lie along the axis "data".

  Raises:
    ValueError: if `fsdp` or `model` does not divide the number of devices of a slice.
  """
  slices = len({getattr(device, "slice_index", None) for device in devices})
  of_slice = len(devices) // slices
  for name, value, within in (("model", model, of_slice), ("fsdp", fsdp, of_slice // max(1, int(model)))):
    if not isinstance(value, numbers.Integral) or value < 0 or within % max(1, value):
      where = f"{of_slice} devices{' of a slice' * (slices > 1)}"
      raise ValueError(f"expected {name} to divide the {where}{f' over {model}' * (within < of_slice)}, got {value}")
  sharding = of_slice // model if fsdp is True else max(1, int(fsdp))
  data = of_slice // model // sharding
  shape, names = [data, sharding, model], [DATA, FSDP, MODEL]
  if model == 1:
    shape, names = shape[:2], names[:2]
    if not fsdp:
      shape, names = shape[:1], names[:1]
  kinds = (AxisType.Auto,) * len(names)
  if slices > 1:
    between = [slices] + [1] * (len(shape) - 1)
    grid = mesh_utils.create_hybrid_device_mesh(shape, between, devices, allow_split_physical_axes=True)
    return Mesh(grid, names, axis_types=kinds)
  return jax.make_mesh(shape, names, axis_types=kinds, devices=devices)


def devices_for(rows: int, devices: int | None = None) -> int:
  """Returns the number of devices for a batch of `rows`: `devices` if given, else the largest number that divides it.

  Several hosts use all of their devices by default, or on CPUs as many of each host as divide the batch.
  """
  hosts = jax.process_count()
  if devices is not None or (hosts > 1 and jax.default_backend() != "cpu"):
    return jax.device_count() if devices is None else devices
  counts = range(jax.device_count() // hosts * hosts, 0, -hosts)
  return next((count for count in counts if rows % count == 0), jax.device_count())


def _of_every_host(count: int) -> list[jax.Device]:
  """The first devices of every host, as many of each."""
  own = {}
  for device in jax.devices():
    own.setdefault(device.process_index, []).append(device)
  return [device for some in own.values() for device in some[:count]]


def shard_batch(batch: Batch) -> Batch:
  """Makes global arrays, sharded over the mesh, from host-local arrays; without a mesh, arrays on the default device.

  Args:
    batch: Pytree of this host's arrays `[rows, ...]`. The global array concatenates the rows of all hosts, in order.

  Returns:
    The same pytree of global arrays `[hosts * rows, ...]`.

  Raises:
    ValueError: if the leaves' leading axes differ, the global number of rows is not divisible by the number of devices,
      or several hosts have no mesh.

  Example:
    >>> import jax, numpy as np
    >>> from metajax import make_mesh
    >>> from metajax.mesh import shard_batch
    >>> with jax.set_mesh(make_mesh()):
    ...   batch = shard_batch({"image": np.zeros([8, 28, 28, 1])})
    >>> batch["image"].shape
    (8, 28, 28, 1)
  """
  rows = leading_axis(batch) * jax.process_count()
  if device_count() == 1:
    if jax.process_count() > 1:
      raise ValueError(f"expected a mesh over the devices of all {jax.process_count()} hosts, such as make_mesh()")
    return jax.tree.map(jnp.asarray, batch)
  check_divides(rows)
  sharding = NamedSharding(jax.sharding.get_mesh(), P(row_axes()))
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def shard_padded(batch: Batch, rows: int = 0) -> tuple[Batch, np.ndarray]:
  """`shard_batch` for any number of rows, even none on some hosts.

  Short batches are padded with copies of the last row, or zeros on a host without rows.

  Args:
    batch: This host's rows.
    rows: Minimum number of rows per host after padding, so that one shape is compiled.

  Returns:
    `(batch, mask)`: the global arrays, and a boolean mask `[rows]`, True for the rows that are not padding.

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
  """Copies every leaf to every device of the mesh; without a mesh, to the default device."""
  if jax.sharding.get_abstract_mesh().empty:
    return jax.tree.map(jnp.asarray, tree)
  return jax.device_put(tree, NamedSharding(jax.sharding.get_mesh(), P()))


def to_host(tree: Any) -> Any:
  """Converts global arrays to complete NumPy arrays on every host, and typed keys to their key data."""

  def whole(x):
    x = jax.random.key_data(x) if is_key(x) else x
    here = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
    return np.asarray(x if here else replicate(x))

  return jax.tree.map(whole, tree)


def check_divides(rows: int):
  if rows % device_count():
    raise ValueError(f"expected a batch divisible by the {device_count()} devices of the mesh, got {rows} rows")
