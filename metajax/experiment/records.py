"""Records as JSON: what a run measured, beside the command, the machine and the versions that measured it."""

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
from metajax.experiment.renamed import current
from metajax.experiment.results_page import build_page
from metajax.experiment.types import Record
from metajax.mesh import is_primary_host
from metajax.paths import alone, read_json
from metajax.report import write_whole

SETTING = (
  *("learner", "data", "split", "measure", "ways", "shots", "queries", "policy", "seed", "seeds"),
  *("adaptation_steps", "labels", "of"),
)  # what a record shares with a later one that takes its place


def flat(record: Record) -> dict:
  """A record as JSON has it.

  The interval of one score alone, which is infinite, is None: JSON has no number for it.
  """
  interval = record.interval
  interval = None if interval is None or not math.isfinite(interval) else interval
  measured = {"measure": record.measure, "value": record.value, "interval": interval, "published": record.published}
  variant = {"variant": list(record.variant)} if record.variant else {}
  return stamped(learner=record.name, **variant, **record.about, **measured)


def stamped(**measured: Any) -> dict:
  """What was measured, with the command, the machine and the versions that measured it."""
  return {**measured, "command": typed(), "machine": machine(), "versions": versions()}


def versions() -> dict[str, str]:
  """The versions that a figure may depend on."""
  return {name: version(name) for name in ("metajax", "jax", "flax", "optax", "numpy")}


def machine() -> str:
  """The accelerator's name and number, or how many CPU cores there are and of which architecture."""
  device = jax.devices()[0]
  if device.platform == "cpu":
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"
  return f"{jax.device_count()} x {device.device_kind}"


def write(path: Path, records: list[dict] | dict):
  """Writes records as JSON, whole or not at all; a byte of a name that is no UTF-8 is read back as it was."""
  text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
  write_whole(path, text.encode(errors="backslashreplace"))  # what JSON escapes a lone surrogate by too


def check_writable(folder: Path):
  """Finds before a long run that its folder cannot be written, without writing anything.

  Raises:
    OSError: naming what stands in the way.
  """
  there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
  if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
    raise OSError(f"expected a folder that can be written for the output {str(folder)!r}, got {str(there)!r}")


def read(path: Path) -> list[dict]:
  """Records that were written, with today's names; none where there is no file.

  Raises:
    OSError, ValueError: if it cannot be read, or holds something else.
  """
  found = read_json(path, list) if path.exists() else []
  if odd := [one for one in found if not isinstance(one, dict)]:
    raise ValueError(f"expected records in {str(path)!r}, got {str(odd[0])[:60]!r}")
  return [current(one) for one in found]


def home(command: Callable) -> Path:
  """The folder of a command's file, in which its results are published."""
  return Path(inspect.getfile(inspect.unwrap(command))).resolve().parent


def publish(folder: Path, name: str, records: Sequence[dict], figure: Path | None = None):
  """Adds records to `FOLDER/results/NAME.json`, in place of those of the same settings, and rebuilds the page.

  The figure, if there is one, becomes `NAME.png` beside them. Of several hosts the first one does so.
  """
  if not is_primary_host():
    return
  path = folder / "results" / f"{name}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  with alone(path.parent):  # what another run adds meanwhile is not lost
    new = {_setting(r) for r in records}
    write(path, [r for r in read(path) if _setting(r) not in new] + list(records))
    if figure is not None:
      write_whole(path.with_suffix(".png"), figure.read_bytes())
    build_page(folder, {path.stem: read(path) for path in sorted(path.parent.glob("*.json"))})


def _setting(r: dict) -> tuple:
  return tuple(r.get(key) for key in SETTING)
