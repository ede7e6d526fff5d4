"""Devices: how many there are, and how batches and params are spread over them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metajax.types import Batch, Params

DATA = "data"


def make_mesh(devices: int | None = None) -> Mesh:
  """A mesh over the first `devices` devices (all of them by default), along which batches are sharded.

  Raises:
    ValueError: if there are fewer devices.
  """
  count = jax.device_count() if devices is None else devices
  if not 1 <= count <= jax.device_count():
    raise ValueError(f"expected 1 to {jax.device_count()} devices, the number there are, got {devices}")
  return jax.make_mesh((count,), (DATA,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])


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
    ValueError: if the leaves' leading axes differ, or the global number of rows does not divide by the devices.
  """
  rows = leading(batch) * jax.process_count()
  if device_count() == 1:
    return jax.tree.map(jnp.asarray, batch)
  check_divides(rows)
  sharding = NamedSharding(jax.sharding.get_mesh(), P(DATA))
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def replicate(tree: Params) -> Params:
  """Every device of the mesh gets the whole of every leaf; without a mesh, arrays on the device."""
  if jax.sharding.get_abstract_mesh().empty:
    return jax.tree.map(jnp.asarray, tree)
  return jax.device_put(tree, NamedSharding(jax.sharding.get_mesh(), P()))


@contextlib.contextmanager
def while_tracing():
  """Within it, what depends on no traced value is computed at once, on one device, whatever is being traced."""
  with jax.ensure_compile_time_eval(), jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
    yield


def leading(batch) -> int:
  sizes = sorted({jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)})
  if len(sizes) != 1 or sizes[0] in ((), (0,)):
    raise ValueError(f"expected every array of a batch to have the same leading axis of at least 1, got {sizes}")
  return sizes[0][0]


def check_divides(rows: int):
  if rows % device_count():
    raise ValueError(f"expected a batch that divides by the {device_count()} devices of the mesh, got {rows} rows")
