"""The devices of a run or of a test of runs."""

import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax

from metajax.mesh import devices_for, make_mesh
from metajax.mesh.placement import DATA, FSDP, MODEL

AXIS = re.compile(rf"({DATA}|{FSDP}|{MODEL})=([1-9]\d{{0,5}})")


def on_devices(devices: int | None, *, fsdp: bool | int = False, model: int = 1) -> AbstractContextManager:
  """A context in which batches are sharded over devices.

  Args:
    devices: Number of devices; by default all.
    fsdp: Devices that parameters are sharded over too; True for all.
    model: Devices that share each layer of a transformer.

  Example:
    `with on_devices(2): scores = few_shot_accuracy(...)`
  """
  return jax.set_mesh(make_mesh(devices, fsdp=fsdp, model=model))


def sizes_of(mesh: Sequence[str]) -> dict[str, int]:
  """Returns the size of each axis that the flag `--mesh` names.

  Raises:
    ValueError: if an axis is unknown or is named twice.
  """
  given = [AXIS.fullmatch(one) for one in mesh]
  if None in given or len({one[1] for one in given if one}) < len(given):
    raise ValueError(f"expected --mesh with axes such as data=16 fsdp=4 model=2, each once, got {' '.join(mesh)!r}")
  return {one[1]: int(one[2]) for one in given if one}


def devices_of(mesh: Sequence[str], rows: int, devices: int | None) -> int:
  """Returns the number of devices for batches of `rows`: `devices` if given, else as many as `--mesh` makes up.

  Without axes it is the largest number that divides the rows; without the axis "data" it is all devices.
  """
  sizes = sizes_of(mesh)
  if devices is None and sizes:
    return math.prod(sizes.values()) if DATA in sizes else jax.device_count()
  return devices_for(rows, devices)


def axes_of(mesh: Sequence[str], fsdp: bool, devices: int) -> dict[str, Any]:
  """Returns the arguments `fsdp` and `model` of `make_mesh` for the flags `--mesh` and `--fsdp`.

  Args:
    mesh: Such as `("data=16", "fsdp=4", "model=2")`; an axis that is left out has size 1, "data" takes the rest.
    fsdp: Whether parameters are sharded over all devices that share a batch.
    devices: Number of devices.

  Raises:
    ValueError: if the axes do not make up the devices, or as `sizes_of`.
  """
  sizes = sizes_of(mesh)
  if fsdp and FSDP in sizes:
    raise ValueError(f"expected --fsdp or --mesh with {FSDP}, got both")
  model = sizes.get(MODEL, 1)
  sharding = sizes.get(FSDP, max(1, devices // model) if fsdp else 1)
  rest = devices // (sharding * model)
  if sharding * model * rest != devices or sizes.get(DATA, rest) != rest:
    raise ValueError(f"expected --mesh with axes that make up {devices} devices, got {' '.join(mesh) or 'none'}")
  return {"fsdp": fsdp or (sharding if FSDP in sizes else False), "model": model}
