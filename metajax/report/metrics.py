"""The metrics of a run on disk: `metrics.jsonl`, a line per call, and the same as TensorBoard events and as a table."""

import json
import math
import warnings
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from metajax import paths
from metajax.report.csv_log import csv_file
from metajax.report.events import event_of, events_file
from metajax.report.files import begin
from metajax.report.rows import WriteRow, on_primary
from metajax.types import MetricLogger

Format = Literal["tensorboard", "csv"]
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

RENAMED = {"gradient_norm": "grad_norm", "waiting_for_data": "data_wait_fraction"}  # names in earlier versions


@contextmanager
def metrics_log(
  folder: Path | str, after: int = 0, *, formats: Collection[Format] = ("tensorboard",)
) -> Generator[MetricLogger]:
  """A context manager that yields a logger, `log(step, metrics)`, which appends to the files of a run.

  A row is a line of `folder/metrics.jsonl`, as `jsonl_log` writes it, and the same in each of the other formats.
  Opening rebuilds these from the kept lines, so that no step is missing or duplicated. Only the primary host writes; on
  the others `log` does nothing.

  Args:
    folder: folder of the run, created if missing.
    after: step at which the run resumes; 0 for a new run. Lines of later steps are dropped.
    formats: formats in addition to `metrics.jsonl`: "tensorboard", event files, and "csv", `folder/metrics.csv`.

  Raises:
    OSError: if a file cannot be written; the message names it.
    ValueError: if the folder is a URL of a scheme that is not opened here, or a metric is called "step" or "time".
  """
  folder = paths.place("the folder of metrics", folder)
  with on_primary(lambda: _files(folder, after, formats)) as log:
    yield log


@contextmanager
def jsonl_log(folder: Path | str, after: int = 0) -> Generator[MetricLogger]:
  """A context manager that yields a logger, `log(step, metrics)`, which appends to `folder/metrics.jsonl`.

  A line is `{"step": 100, "time": <seconds since 1970>, "loss": 0.25, ...}`. Floats round-trip exactly; non-finite ones
  are the strings "NaN", "Infinity" and "-Infinity". A line is on disk when `log` returns.

  Opening keeps the lines of steps up to `after`, unchanged and in order, and drops the later ones, which a resumed run
  writes again. Only the primary host writes.

  Args:
    folder: folder of the run, created if missing.
    after: step at which the run resumes; 0 for a new run.

  Raises:
    OSError: if the file cannot be written; the message names it.
    ValueError: if the folder is a URL of a scheme that is not opened here, or a metric is called "step" or "time".

  Example:
    >>> import tempfile
    >>> from metajax.report import jsonl_log, read_metrics
    >>> folder = tempfile.mkdtemp()
    >>> with jsonl_log(folder) as log:
    ...   log(100, {"loss": 0.25})
    >>> [row["loss"] for row in read_metrics(folder)]
    [0.25]
  """
  with metrics_log(folder, after, formats=()) as log:
    yield log


@contextmanager
def _files(folder: Path, after: int, formats: Collection[Format]) -> Generator[WriteRow]:
  path = folder / "metrics.jsonl"
  kept = [(line, row) for line, row in _lines(path) if row["step"] <= after]
  begin(path, b"".join(line + b"\n" for line, _ in kept))
  rows = [row for _, row in kept]
  with ExitStack() as files:
    files.callback(paths.merge, path)
    append = files.enter_context(paths.appending(path))
    others = []
    if "tensorboard" in formats:
      others.append(files.enter_context(events_file(folder, [event_of(row) for row in rows])))
    if "csv" in formats:
      others.append(files.enter_context(csv_file(folder / "metrics.csv", rows)))

    def write(row):
      written = {name: value if math.isfinite(value) else _spelled(value) for name, value in row.items()}
      append(json.dumps(written).encode() + b"\n", sync=True)
      for other in others:
        other(row)

    yield write


def read_metrics(folder: Path | str) -> list[dict]:
  """The rows of `folder/metrics.jsonl` in order, `{"step": int, "time": float, name: float}`; empty without a file.

  A truncated last line (of a killed process) is skipped silently; any other invalid line is skipped with a warning.

  Raises:
    ValueError: if the folder is a URL of a scheme that is not opened here.
  """
  return [row for _, row in _lines(paths.place("the folder of metrics", folder) / "metrics.jsonl")]


def _lines(path: Path):
  """Yields (raw line, row) for each valid line."""
  lines = paths.read(path).split(b"\n")
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
