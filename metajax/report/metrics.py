"""The numbers of a run on disk: `metrics.jsonl`, a line a call, and the same as TensorBoard events."""

import importlib
import json
import math
import os
import socket
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

from metajax import checks
from metajax.paths import naming
from metajax.report.files import write_whole

_OURS = ".metajax"  # the suffix of the event files that are this log's to replace
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

RENAMED = {"gradient_norm": "grad_norm", "waiting_for_data": "data_wait_fraction"}  # by earlier versions


@contextmanager
def metrics_log(folder: Path, after: int = 0):
  """Gives `log(step, metrics)`, which appends a line to `folder/metrics.jsonl` and the same scalars for TensorBoard.

  A line is `{"step": 100, "time": <seconds since 1970>, "loss": 0.25, ...}`: floats come back exactly, and those that
  JSON has no number for are the strings "NaN", "Infinity" and "-Infinity". A line is on the disk when `log` returns.

  Opening keeps the lines of steps up to `after`, as they are and in their order, and drops the others: a resumed run
  writes those again. The TensorBoard events are made anew from the lines kept, so that there too no step is missing
  or twice. Only the first of several hosts writes; the others are given a `log` that does nothing.

  Args:
    folder: of the run, made where it is missing.
    after: the step from which the run goes on, 0 for a new one.

  Raises:
    OSError: naming the file that cannot be written.
    ValueError: if the folder is remote (`gs://`), or a metric is called "step" or "time".
  """
  folder = checks.local_path("the folder of metrics", folder)
  if jax.process_index() != 0:
    yield lambda step, metrics: None
    return
  path = folder / "metrics.jsonl"
  kept = [(line, row) for line, row in _lines(path) if row["step"] <= after]
  write_whole(path, b"".join(line + b"\n" for line, _ in kept))
  events_path = _rewrite_events(folder, [row for _, row in kept])
  # Unbuffered: what was written outlives the process, and nothing is left to fail at the end.
  with ExitStack() as files:
    lines, events = (files.enter_context(p.open("ab", buffering=0)) for p in (path, events_path))

    def log(step, metrics):
      if reserved := {"step", "time"} & set(metrics):
        raise ValueError(f"expected no metric called {reserved.pop()!r}: a line has that already")
      row = {"step": int(step), "time": time.time(), **{name: float(value) for name, value in metrics.items()}}
      written = {name: value if math.isfinite(value) else _spelled(value) for name, value in row.items()}
      _append(lines, json.dumps(written).encode() + b"\n", sync=True)
      _append(events, _event(row))

    yield log


def read_metrics(folder: Path) -> list[dict]:
  """The rows of `folder/metrics.jsonl` in order, `{"step": int, "time": float, name: float}`; none without a file.

  A last line that a kill cut short is left out; any other line that is not a row, with a warning.

  Raises:
    ValueError: if the folder is remote (`gs://`).
  """
  return [row for _, row in _lines(checks.local_path("the folder of metrics", folder) / "metrics.jsonl")]


def _lines(path: Path):
  """(the line as it is, its row) of each line that is a row."""
  lines = path.read_bytes().split(b"\n") if path.exists() else []
  for number, line in enumerate(lines, 1):
    row: Any = None
    with suppress(ValueError, RecursionError):
      row = json.loads(line)
    if _is_row(row):
      yield line, {RENAMED.get(name, name): _number(value) for name, value in row.items()}
    elif line.strip() and number < len(lines):  # after the last line end there is nothing, or what a kill cut short
      warnings.warn(f"{path}, line {number}: left out, it is not a row of metrics", stacklevel=2)


def _is_row(row) -> bool:
  """Whether it has a step, and else numbers alone."""
  numbers = isinstance(row, dict) and all(isinstance(_number(value), int | float) for value in row.values())
  return numbers and isinstance(row.get("step"), int)


def _spelled(value: float) -> str:
  return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number(value):
  return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _rewrite_events(folder: Path, rows: list[dict]) -> Path:
  """Puts one event file of these rows in the place of those that were, and gives its path."""
  events = _messages("event")
  old = set(folder.glob(f"*.tfevents.*{_OURS}"))
  began = rows[0].get("time", 0.0) if rows else time.time()
  # A TensorBoard that is looking on forgets, at START, what it had read of the old files.
  head = [
    events.Event(wall_time=began, file_version="brain.Event:2"),
    events.Event(wall_time=began, step=0, session_log=events.SessionLog(status=events.SessionLog.START)),
  ]
  path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}{_OURS}"
  write_whole(path, b"".join([*(_framed(event) for event in head), *(_event(row) for row in rows)]))
  for other in old - {path}:
    other.unlink(missing_ok=True)
  return path


def _messages(name: str) -> Any:
  """TensorBoard's messages, whose classes are made when they are imported."""
  return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")


def _event(row: dict) -> bytes:
  summary = _messages("summary").Summary
  numbers = {name: v for name, v in row.items() if name not in ("step", "time") and isinstance(v, int | float)}
  values = [summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
  event = _messages("event").Event
  return _framed(event(wall_time=row.get("time", 0.0), step=row["step"], summary=summary(value=values)))


def _framed(event) -> bytes:
  """An event as its record in an event file."""
  import io

  # TensorBoard's EventFileWriter would import the whole of TensorFlow; its RecordWriter does not.
  from tensorboard.summary.writer.record_writer import RecordWriter

  file = io.BytesIO()
  RecordWriter(file).write(event.SerializeToString())
  return file.getvalue()


def _append(file, content: bytes, sync: bool = False):
  with naming(file.name):
    while content:  # a disk that fills up takes a part first
      content = content[file.write(content) :]
    if sync:
      os.fsync(file.fileno())
