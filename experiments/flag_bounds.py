"""Which numbers flags may have: looked at for every command, before it does anything.

A flag without bounds of its own is a whole number from 0 to 2**31 - 1, or a finite number.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from experiments.flags import LONGEST
from metajax import checks

MOST = 2**31 - 1
ABOVE_0, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)  # below it 32 bits hold 0
BELOW_1 = 1 - 2**-24
UNSAID = {int: (0, MOST), float: (-LARGEST, LARGEST)}
WIDTH, LAYERS, STEPS = 2**16, 1000, 10**5  # more would be built for hours
LONGEST_NAME = 255  # bytes, on all usual disks


def _each(names: str, least: float, most: float = MOST) -> dict:
  return dict.fromkeys(names.split(), (least, most))


BOUNDS = {
  **_each("steps compared_steps curve_every validate_every checkpoint_every keep validations devices seeds_at_once", 1),
  **_each("batch_size inner_batch tasks shots queries test_queries chunk window stride frames top top_k", 1),
  **_each("min_images_per_class", 1),
  **_each("ways test_tasks validation_tasks classes each", 2),
  **_each("seeds", 1, 1000),
  **_each("seed", 0, 2**32 - 1),
  **_each("size", 8, 4096),
  **_each("inner_steps test_inner_steps cg_steps head_steps tune_steps", 1, STEPS),
  **_each("curve read_steps", 0, LAYERS),
  **_each("layers text_layers decoder_layers", 1, LAYERS),
  **_each("filters hidden outputs heads text_width decoder_width", 1, WIDTH),
  **_each("context", 0, WIDTH),
  **_each("length", 2, WIDTH),
  **_each("vocabulary", 258, 2**24),  # 256 bytes, a start and an end
  **_each("patch image_size", 1, 4096),
  **_each("colours", 2, WIDTH),
  **_each("pixels", 2, 1024),
  **_each("permutations", 2, 2000),
  **_each("grid", 2, 3),
  **_each("gap jitter", 0, 4096),
  **_each("sample_rate", 1000, 10**6),
  **_each("frame_rate", ABOVE_0, 1000),
  **_each("rate inner_rate head_rate tune_rate low_rate high_rate rates strength scale temperature", ABOVE_0, LARGEST),
  **_each("decay damping margin", 0, LARGEST),
  **_each("width", 1 / 64, 64),  # of the filters of every layer
  **_each("dropout", 0, BELOW_1),
  **_each("masked", ABOVE_0, BELOW_1),
  **_each("labels top_p", ABOVE_0, 1),
  **_each("wrong", 0.01, 0.99),
  **_each("clean", 1, 24),
}
OWN = {  # of a command, where a name means something else there
  **_each("clip.steps generative.steps pretext.steps simclr.steps", 2),
  **_each("clip.batch_size generative.batch_size pretext.batch_size simclr.batch_size", 2),
  **_each("matching.size prototypical.size siamese.size supervised.size triplet.size", 16, 4096),  # halved four times
  **_each("generative.width", 1, WIDTH),
  **_each("generative.temperature", 0, LARGEST),
  **_each("pretext.hidden", 0, WIDTH),
  **_each("evaluate.tasks one_shot.runs reweighting.seeds", 2),
  **_each("reweighting.ways", 2, 339),
}


def check(module: str, keywords: Mapping) -> dict:
  """The flags of a command, whose numbers are looked at, with `~` in paths as the home folder.

  Args:
    module: of the command. One that is not of this package says itself what its own flags may be, but for infinities.
    keywords: all flags by name, those in groups too.

  Raises:
    ValueError: naming the first flag that has a value which it may not have.
  """
  found, ours = {}, _is_ours(module)
  command = module.rpartition(".")[2] if ours else ""
  for name, value in keywords.items():
    if hasattr(value, "_asdict"):
      known = ours or _is_ours(type(value).__module__)
      fields = {field: _checked(command, field, one, known) for field, one in value._asdict().items()}
      found[name] = value._replace(**fields)
    else:
      found[name] = _checked(command, name, value, ours)
  return found


def check_devices(keywords: Mapping):
  """Refuses more devices than there are here.

  Raises:
    ValueError: with how many there are.
  """
  for name, value in flat(keywords):
    if name == "devices" and value is not None and value > jax.device_count():
      raise ValueError(f"expected --devices of 1 to {jax.device_count()} devices, which there are, got {value}")


def flat(keywords: Mapping) -> Iterator[tuple]:
  """Each flag's name and value, those in groups too."""
  for name, value in keywords.items():
    yield from value._asdict().items() if hasattr(value, "_asdict") else [(name, value)]


def _is_ours(module: str) -> bool:
  return module.split(".")[0] == "experiments"


def _checked(command: str, name: str, value, known: bool):
  flag = f"--{name.replace('_', '-')}"
  if isinstance(value, tuple):
    return tuple(_checked(command, name, one, known) for one in value)
  if isinstance(value, Path):
    return _on_disk(flag, value)
  if name == "data" and isinstance(value, str):
    from metajax.data.files.opening import checked_name  # with TensorFlow, which the results page does not need

    return checked_name(value)
  if type(value) in UNSAID:
    unsaid = UNSAID[type(value)] if known else (-MOST, MOST) if isinstance(value, int) else UNSAID[float]
    bounds = OWN.get(f"{command}.{name}") or BOUNDS.get(name) if known else None
    _check_number(flag, value, *(bounds or unsaid))
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
