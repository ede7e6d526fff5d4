"""The metrics of a run on disk: `metrics.jsonl`, a line per call, and the same as TensorBoard events."""

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

_OURS = ".metajax"  # suffix of the event files that this log may replace
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

RENAMED = {"gradient_norm": "grad_norm", "waiting_for_data": "data_wait_fraction"}  # names in earlier versions


@contextmanager
def metrics_log(folder: Path, after: int = 0):
  """A context manager that yields `log(step, metrics)`, which appends to `folder/metrics.jsonl` and TensorBoard events.

  A line is `{"step": 100, "time": <seconds since 1970>, "loss": 0.25, ...}`. Floats round-trip exactly; non-finite ones
  are the strings "NaN", "Infinity" and "-Infinity". A line is on disk when `log` returns.

  Opening keeps the lines of steps up to `after`, unchanged and in order, and drops the later ones, which a resumed run
  writes again. The TensorBoard events are rebuilt from the kept lines, so that no step is missing or duplicated. Only
  the primary host writes; on the others `log` does nothing.

  Args:
    folder: folder of the run, created if missing.
    after: step at which the run resumes; 0 for a new run.

  Raises:
    OSError: if a file cannot be written; the message names it.
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
  # Unbuffered, so that written lines survive a crash and closing cannot fail.
  with ExitStack() as files:
    lines, events = (files.enter_context(p.open("ab", buffering=0)) for p in (path, events_path))

    def log(step, metrics):
      if reserved := {"step", "time"} & set(metrics):
        raise ValueError(f"expected no metric called {reserved.pop()!r}: the name is reserved")
      row = {"step": int(step), "time": time.time(), **{name: float(value) for name, value in metrics.items()}}
      written = {name: value if math.isfinite(value) else _spelled(value) for name, value in row.items()}
      _append(lines, json.dumps(written).encode() + b"\n", sync=True)
      _append(events, _event(row))

    yield log


def read_metrics(folder: Path) -> list[dict]:
  """The rows of `folder/metrics.jsonl` in order, `{"step": int, "time": float, name: float}`; empty without a file.

  A truncated last line (of a killed process) is skipped silently; any other invalid line is skipped with a warning.

  Raises:
    ValueError: if the folder is remote (`gs://`).
  """
  return [row for _, row in _lines(checks.local_path("the folder of metrics", folder) / "metrics.jsonl")]


def _lines(path: Path):
  """Yields (raw line, row) for each valid line."""
  lines = path.read_bytes().split(b"\n") if path.exists() else []
  for number, line in enumerate(lines, 1):
    row: Any = None
    with suppress(ValueError, RecursionError):
      row = json.loads(line)
    if _is_row(row):
      yield line, {RENAMED.get(name, name): _number(value) for name, value in row.items()}
    elif line.strip() and number < len(lines):  # after the last newline there is nothing, or a truncated line
      warnings.warn(f"{path}, line {number}: skipped, it is not a row of metrics", stacklevel=2)


def _is_row(row) -> bool:
  """Whether it is a dictionary of numbers with an integer step."""
  numbers = isinstance(row, dict) and all(isinstance(_number(value), int | float) for value in row.values())
  return numbers and isinstance(row.get("step"), int)


def _spelled(value: float) -> str:
  return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number(value):
  return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _rewrite_events(folder: Path, rows: list[dict]) -> Path:
  """Replaces the old event files by one with these rows, and returns its path."""
  events = _messages("event")
  old = set(folder.glob(f"*.tfevents.*{_OURS}"))
  began = rows[0].get("time", 0.0) if rows else time.time()
  # At START, a running TensorBoard discards what it has read from the old files.
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
  """A module of TensorBoard's protocol buffer messages, whose classes are created at import."""
  return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")


def _event(row: dict) -> bytes:
  summary = _messages("summary").Summary
  numbers = {name: v for name, v in row.items() if name not in ("step", "time") and isinstance(v, int | float)}
  values = [summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
  event = _messages("event").Event
  return _framed(event(wall_time=row.get("time", 0.0), step=row["step"], summary=summary(value=values)))


def _framed(event) -> bytes:
  """An event in the record format of event files."""
  import io

  # TensorBoard's EventFileWriter would import TensorFlow; its RecordWriter does not.
  from tensorboard.summary.writer.record_writer import RecordWriter

  file = io.BytesIO()
  RecordWriter(file).write(event.SerializeToString())
  return file.getvalue()


def _append(file, content: bytes, sync: bool = False):
  with naming(file.name):
    while content:  # a disk that fills up may take only a part
      content = content[file.write(content) :]
    if sync:
      os.fsync(file.fileno())
