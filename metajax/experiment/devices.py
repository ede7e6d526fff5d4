"""The devices of a run or of a test of runs."""

from contextlib import AbstractContextManager

import jax

from metajax.mesh import make_mesh


def on_devices(devices: int | None, *, fsdp: bool = False) -> AbstractContextManager:
  """A context in which batches are sharded over devices.

  Args:
    devices: Number of devices; by default all.
    fsdp: Shard the parameters over the devices too.

  Example:
    `with on_devices(2): scores = few_shot_accuracy(...)`
  """
  return jax.set_mesh(make_mesh(devices, fsdp=fsdp))
