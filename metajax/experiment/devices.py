"""The devices that a run or a test of runs is shared between."""

from contextlib import AbstractContextManager

import jax

from metajax.mesh import make_mesh


def on_devices(devices: int | None, *, fsdp: bool = False) -> AbstractContextManager:
  """A context in which batches are shared between devices.

  Args:
    devices: how many; by default all.
    fsdp: whether the parameters are shared between them too.

  Example:
    `with on_devices(2): scores = few_shot_accuracy(...)`
  """
  return jax.set_mesh(make_mesh(devices, fsdp=fsdp))
