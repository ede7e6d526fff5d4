"""Slices of TPUs without their chips: XLA's compiler for them runs on any machine."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax

from metajax.compiled.chips import CHIPS, Chip

NAME = re.compile(r"(v4|v5e|v5p|v6e):(\d+x\d+(?:x\d+)?)")
SLICES = re.compile(r"slices=(\d+)")
EXPECTED = "expected a slice of TPUs such as v5e:4x4 or v5p:2x2x2, and slices=N for several of them"
ENVIRONMENT = {  # of libtpu: no metadata server, no chip to lock, no other host
  "TPU_SKIP_MDS_QUERY": "1",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
}


class Slices(NamedTuple):
  """Slices of TPUs of one kind and shape.

  Attributes:
    name: Such as "v5e:4x4", or "v5e:4x4 slices=2".
    devices: Devices of all slices, one slice after the other.
    slices: Number of slices.
    chip: What a device can do.
  """

  name: str
  devices: Sequence[jax.Device]
  slices: int
  chip: Chip


def slices_of(words: Sequence[str]) -> Slices:
  """Returns the slices that a flag names.

  Args:
    words: Name of a slice, such as "v5e:4x4", and possibly "slices=2".

  Raises:
    ValueError: if there are no such slices, or libtpu is not installed; one line says how to install it.
  """
  name, number = _read(words)
  from jax.experimental import topologies  # it takes a while to import, and few commands compile for slices

  for variable, value in ENVIRONMENT.items():
    os.environ.setdefault(variable, value)
  several = {"num_slices": number} if number > 1 else {}
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name, **several)
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(f"{EXPECTED}, got {' '.join(words)!r}: {str(error).splitlines()[0]}") from None
  except RuntimeError:
    raise ValueError("expected libtpu, XLA's compiler for TPUs, which needs no TPU: pip install libtpu") from None
  devices = sorted(found.devices, key=lambda device: getattr(device, "slice_index", 0) or 0)
  return Slices(" ".join(words), devices, number, CHIPS[devices[0].device_kind])


def _read(words):
  """The name of a slice and the number of slices."""
  name, *rest = words or ("",)
  number = SLICES.fullmatch(rest[0]) if len(rest) == 1 else None
  if not NAME.fullmatch(name) or (rest and (number is None or not 1 <= int(number[1]) <= 64)):
    raise ValueError(f"{EXPECTED}, got {' '.join(words)!r}")
  return name, int(number[1]) if number else 1
