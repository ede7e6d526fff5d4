"""Which numbers flags may have: `Annotated[int, Bounds(1)]` in a config, looked at before a command does anything.

A flag without bounds of its own is a whole number of at most 31 bits, or a finite number.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import jax
import numpy as np
from tyro.conf import Positional

from metajax import checks
from metajax.experiment.flags import LONGEST
from metajax.paths import is_url, place

MOST = 2**31 - 1
ABOVE_0, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)  # below it 32 bits hold 0
BELOW_1 = 1 - 2**-24
UNSAID = {int: (-MOST, MOST), float: (-LARGEST, LARGEST)}
LONGEST_NAME = 255  # bytes, on all usual disks


class Bounds(NamedTuple):
  """The least and the greatest number that a flag may have, of a tuple each of them."""

  least: float
  most: float = MOST


class DataName(NamedTuple):
  """Marks a flag that names data: a built-in or TFDS set, or a path."""


class MayBeRemote(NamedTuple):
  """Marks a flag whose path may be the URL of a bucket."""


NotNegative = Annotated[int, Bounds(0)]
Count = Annotated[int, Bounds(1)]
TwoOrMore = Annotated[int, Bounds(2)]
Seed = Annotated[int, Bounds(0, 2**32 - 1)]
Width = Annotated[int, Bounds(1, 2**16)]  # of a layer; a wider one would be built for hours, as the next two
Depth = Annotated[int, Bounds(1, 1000)]
Steps = Annotated[int, Bounds(1, 10**5)]  # of an inner loop
Positive = Annotated[float, Bounds(ABOVE_0, LARGEST)]
ZeroOrMore = Annotated[float, Bounds(0, LARGEST)]
Fraction = Annotated[float, Bounds(ABOVE_0, 1)]
DataSource = Annotated[str, DataName()]
DataSources = Annotated[tuple[str, ...], DataName()]
RunPath = Annotated[Path, MayBeRemote()]
RunPaths = Annotated[Positional[tuple[Path, ...]], MayBeRemote()]


def check(kinds: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  """The flags of a command, whose numbers are looked at, with `~` in paths as the home folder.

  Args:
    kinds: `{name: type}` of the flags, with their bounds.
    values: the flags by name; a group of flags is a NamedTuple.

  Raises:
    ValueError: naming the first flag that has a value which it may not have.
  """
  return {name: _checked(name, kinds.get(name), value) for name, value in values.items()}


def check_devices(values: Mapping[str, Any]):
  """Refuses more devices than there are here.

  Raises:
    ValueError: with how many there are.
  """
  for name, value in flat(values):
    if name == "devices" and value is not None and value > jax.device_count():
      raise ValueError(f"expected --devices of 1 to {jax.device_count()} devices, which there are, got {value}")


def flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
  """Each flag's name and value, those in groups too."""
  for name, value in values.items():
    yield from flat(value._asdict()) if hasattr(value, "_asdict") else [(name, value)]


def _checked(name: str, kind, value):
  flag = f"--{name.replace('_', '-')}"
  if hasattr(value, "_asdict"):
    return type(value)(**check(get_type_hints(type(value), include_extras=True), value._asdict()))
  said = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
  if isinstance(value, tuple):
    return tuple(_checked(name, kind, one) for one in value)
  if isinstance(value, Path):
    if any(isinstance(one, MayBeRemote) for one in said) and is_url(value):
      return place(flag, value)
    return _on_disk(flag, value)
  if isinstance(value, str) and any(isinstance(one, DataName) for one in said):
    from metajax.data.files.opening import checked_name  # with TensorFlow, which a command without data does not need

    return checked_name(value, buckets=True)
  if type(value) in UNSAID:
    _check_number(flag, value, *next((one for one in said if isinstance(one, Bounds)), UNSAID[type(value)]))
  return value


def _check_number(flag: str, value: float, least: float, most: float):
  got = f"got {str(value)[:LONGEST]}"
  if (least, most) == UNSAID[float] and not least <= value <= most:
    raise ValueError(f"expected {flag} to be a finite number, {got}")
  if not value >= least:
    raise ValueError(f"expected {flag} {'above 0' if least == ABOVE_0 else f'to be at least {least}'}, {got}")
  if value > most:
    raise ValueError(f"expected {flag} {'below 1' if most == BELOW_1 else f'to be at most {most}'}, {got}")
  if isinstance(value, float) and 0 < abs(value) < ABOVE_0:
    raise ValueError(f"expected {flag} to be 0 or a number that is not 0 in 32 bits, {got}")


def _on_disk(flag: str, path: Path) -> Path:
  """The path, if a disk of this machine can have it."""
  try:
    path = checks.local_path(flag, path)
  except RuntimeError as error:  # of a user that there is not
    raise ValueError(f"expected {flag} to be a path on this machine, got {str(path)!r}: {error}") from None
  longest = max(map(len, map(os.fsencode, path.parts)), default=0)
  if longest > LONGEST_NAME or "\0" in str(path):
    given = f"got {str(path)[:LONGEST]!r}..., one of {longest}"
    raise ValueError(f"expected {flag} to be a path whose names have at most {LONGEST_NAME} bytes, {given}")
  return path
