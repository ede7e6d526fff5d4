"""Records as JSON: measured values with the command, the machine and the versions."""

import inspect
import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from metajax.experiment.command_line import typed
from metajax.experiment.precision import arithmetic
from metajax.experiment.renamed import current
from metajax.experiment.results_page import build_page
from metajax.experiment.types import Record
from metajax.mesh import cores, is_primary_host
from metajax.paths import alone, exists, read_json, remote
from metajax.report import write_whole
from metajax.version import package_version

SETTING = (
  *("learner", "data", "split", "measure", "ways", "shots", "queries", "policy", "seed", "seeds"),
  *("ways_up_to", "adaptation_steps", "labels", "of"),
)  # a new record replaces an old one with equal entries
ENCODER = ("encoder", "image_size", "features")  # and with an equal encoder, unless the old one does not say its own


def flat(record: Record) -> dict:
  """Converts a record to JSON types. The infinite interval of a single score becomes None."""
  interval = record.interval
  interval = None if interval is None or not math.isfinite(interval) else interval
  measured = {"measure": record.measure, "value": record.value, "interval": interval, "published": record.published}
  variant = {"variant": list(record.variant)} if record.variant else {}
  return stamped(learner=record.name, **variant, **record.about, **measured)


def stamped(**measured: Any) -> dict:
  """Adds the command, the machine, the precision and the versions to measured values."""
  about = {"command": typed(), "machine": machine(), "precision": arithmetic(), "versions": versions()}
  return {**measured, **about}


def versions() -> dict[str, str]:
  """Versions of the libraries that results may depend on."""
  return {"metajax": package_version()} | {name: version(name) for name in ("jax", "flax", "optax", "numpy")}


def machine() -> str:
  """Number and name of the accelerators, or number and architecture of the CPU cores that the process may use."""
  device = jax.devices()[0]
  if device.platform == "cpu":
    there, used = os.cpu_count(), cores()
    return f"{f'{used} of {there}' if used != there else used} CPU cores ({platform.machine()})"
  return f"{jax.device_count()} x {device.device_kind}"


def write(path: Path, records: list[dict] | dict):
  """Writes records as JSON, atomically; bytes of a name that are not UTF-8 are preserved."""
  text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
  write_whole(path, text.encode(errors="backslashreplace"))  # JSON escapes a lone surrogate in the same way


def check_writable(folder: Path):
  """Checks that a folder can be written, before a long run and without writing anything; that a bucket answers.

  Raises:
    OSError: naming the path that cannot be written.
  """
  if remote(folder):
    exists(folder)
    return
  there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
  if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
    raise OSError(f"expected a writable folder for the output {str(folder)!r}, got {str(there)!r}")


def read(path: Path) -> list[dict]:
  """Reads records, with current names; returns none if the file is missing.

  Raises:
    OSError, ValueError: if the file cannot be read, or holds no records.
  """
  found = read_json(path, list) if exists(path) else []
  if odd := [one for one in found if not isinstance(one, dict)]:
    raise ValueError(f"expected records in {str(path)!r}, got {str(odd[0])[:60]!r}")
  return [current(one) for one in found]


def home(command: Callable) -> Path:
  """The folder of a command's source file, where its results are published."""
  return Path(inspect.getfile(inspect.unwrap(command))).resolve().parent


def publish(folder: Path, name: str, records: Sequence[dict], figure: Path | None = None):
  """Adds records to `FOLDER/results/NAME.json`, replacing those of the same settings, and rebuilds the page.

  A figure is copied to `NAME.png` in the same folder. Only the primary host writes.
  """
  if not is_primary_host():
    return
  path = folder / "results" / f"{name}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  with alone(path.parent):  # records that another run adds at the same time are kept
    new = {_setting(one) for r in records for one in (r, r | dict.fromkeys(ENCODER))}
    write(path, [r for r in read(path) if _setting(r) not in new] + list(records))
    if figure is not None:
      write_whole(path.with_suffix(".png"), figure.read_bytes())
    build_page(folder, {path.stem: read(path) for path in sorted(path.parent.glob("*.json"))})


def _setting(r: dict) -> tuple:
  return tuple(r.get(key) for key in (*SETTING, *ENCODER))
