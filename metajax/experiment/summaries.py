"""Summaries of runs, from their folders' data alone: nothing that a folder names is imported."""

import math
import os
import socket
import stat
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from metajax.experiment import claims, headlines, records
from metajax.experiment.configuration import configuration
from metajax.experiment.longer import STEPS
from metajax.experiment.parts import checkpointed_step, parts_of
from metajax.experiment.renamed import current_flags
from metajax.experiment.settings import setting_name
from metajax.paths import remote
from metajax.report import read_metrics


class Summary(NamedTuple):
  """A run.

  Attributes:
    folder: Folder of the run.
    experiment: Module of its command.
    state: "finished", or "running" or "stopped", with the step.
    started: Date and time of its first session; "" if unknown.
    flags: Flags, by today's names.
    figures: `{name: (value, half-width of the 95% interval or None)}`: the headlines of the run's page.
    seconds: Training time of all its trainings together; None if unknown.
    problem: What could not be read; "" if nothing.
  """

  folder: Path
  experiment: str
  state: str
  started: str
  flags: dict[str, Any]
  figures: dict[str, tuple[float, float | None]]
  seconds: float | None
  problem: str


class _Progress(NamedTuple):
  """The last step of a training, its training time, and the time of its last row of metrics."""

  part: str
  step: int
  seconds: float | None
  time: float


def summary_of(folder: Path) -> Summary:
  """Summarizes a run.

  Raises:
    OSError, ValueError: if the folder holds no run, or its `run.json` cannot be read.
  """
  said = configuration(folder)
  progress = [_progress(folder, part) for part in parts_of(folder)]
  seconds = [one.seconds for one in progress if one.seconds is not None]
  started = said["sessions"][0].get("started") if said["sessions"] else None
  figures, finished, problem = {}, False, ""
  try:
    measured = records.read(folder / "records.json")
    figures, finished = _figures(measured), bool(measured)
  except (OSError, ValueError) as error:
    problem = str(error)
  return Summary(
    folder,
    said["experiment"],
    _state(folder, said["flags"].get(STEPS), progress, finished),
    started if isinstance(started, str) else "",
    current_flags(said["experiment"], said["flags"]),
    figures,
    sum(seconds) if seconds else None,
    problem,
  )


def _state(folder: Path, steps: Any, progress: list[_Progress], finished: bool) -> str:
  claim = claims.holder(folder)
  if finished and claim is None:
    return "finished"
  last = max(progress, key=lambda one: one.time, default=_Progress("", 0, None, 0.0))
  of = f" of {steps}" if type(steps) is int else ""
  at = f"at step {last.step}{of}" + (f" ({last.part})" if last.part else "")
  if claim is None:
    return f"stopped {at}"
  return f"running {at}" if claim.host == socket.gethostname() else f"running on {claim.host} {at}"


def _progress(folder: Path, part: Path) -> _Progress:
  """The progress of a training, by its checkpoints and its metrics."""
  name, step = str(part.relative_to(folder)), checkpointed_step(part)
  row = _last_row(part)
  seconds = row.get("seconds")
  known = isinstance(seconds, int | float) and math.isfinite(seconds)
  return _Progress(
    "" if name == "." else name, max(step, row.get("step", 0)), float(seconds) if known else None, row.get("time", 0.0)
  )


def _last_row(part: Path) -> dict:
  path = part / "metrics.jsonl"
  try:
    if not remote(path) and not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would block
      return {}
    with warnings.catch_warnings(action="ignore"):
      return next(reversed(read_metrics(part)), {})
  except OSError:
    return {}


def _figures(measured: list[dict]) -> dict[str, tuple[float, float | None]]:
  """The headlines of records.

  Raises:
    ValueError: if the records lack an entry, or have another type in it.
  """
  try:
    found = headlines.headlines(measured)
    return {_name(*one): (_number(one[-1]["value"]), _number(one[-1]["interval"], None)) for one in found}
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"expected records of a run, got some with {type(error).__name__}: {error}") from None


def _name(label: str, which: str, record: dict) -> str:
  """The label of a figure, with the measure if the label does not say it, its test and its unit."""
  measure = record["measure"].replace("_", " ")
  named = f"{label} {measure}" if setting_name(record) and record["measure"] != "accuracy" else label
  return named + (f", {which}" if which else "") + (" (%)" if headlines.is_percentage(record) else "")


def _number(value: Any, *others: None) -> Any:
  if value in others or (isinstance(value, int | float) and not isinstance(value, bool)):
    return value
  raise TypeError(f"expected a number, got {str(value)[:60]!r}")
