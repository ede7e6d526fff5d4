"""Metrics as a table, `metrics.csv`: a row per call, a column per metric."""

import csv
import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metajax import paths
from metajax.report.files import begin
from metajax.report.rows import RESERVED, WriteRow, on_primary
from metajax.types import MetricLogger


@contextmanager
def csv_log(path: Path | str, after: int = 0) -> Generator[MetricLogger]:
  """A context manager that yields a logger, `log(step, metrics)`, which appends a row to a CSV file.

  The columns are `step`, `time` (seconds since 1970) and the metrics, in the order in which they appear. A new metric
  rewrites the file with one more column; a metric that a row lacks is an empty cell. Floats round-trip exactly;
  non-finite ones are `nan`, `inf` and `-inf`. A row is on disk when `log` returns.

  Opening keeps the rows of steps up to `after` and drops the later ones, which a resumed run writes again. Only the
  primary host writes.

  Args:
    path: path of the file; missing folders are created.
    after: step at which the run resumes; 0 for a new run.

  Raises:
    OSError: if the file cannot be written; the message names it.
    ValueError: if the path is a URL of a scheme that is not opened here, the file is another table, or a metric is
      called "step" or "time".
  """
  path = paths.place("the CSV file of metrics", path)
  with on_primary(lambda: csv_file(path, [row for row in _rows(path) if int(row["step"]) <= after])) as log:
    yield log


@contextmanager
def csv_file(path: Path, kept: Sequence[dict[str, Any]]) -> Generator[WriteRow]:
  """Replaces a CSV file by one of the kept rows, and yields `write(row)`, which appends to it."""
  columns = list(dict.fromkeys([*RESERVED, *(name for row in kept for name in row)]))
  begin(path, _table(columns, kept))

  def write(row):
    if new := [name for name in row if name not in columns]:
      columns.extend(new)
      begin(path, _table(columns, [*_rows(path), row]))
    else:
      with paths.appending(path) as append:
        append(_lines([_cells(columns, row)]), sync=True)

  try:
    yield write
  finally:
    paths.merge(path)


def _rows(path: Path) -> list[dict[str, str]]:
  """The rows of a file that this log wrote; a truncated last line (of a killed process) is left out."""
  with paths.naming(path):
    content = paths.read(path)
  if content and not content.startswith(",".join(RESERVED).encode()):
    first = content.splitlines()[0].decode(errors="replace")
    raise ValueError(f"expected a table of metrics, step,time,..., in {str(path)!r}, got {first[:60]!r}")
  whole, newline, _ = content.rpartition(b"\n")
  lines = list(csv.reader(io.StringIO((whole + newline).decode(errors="replace"), newline="")))
  header, cells = (lines[0], lines[1:]) if lines else ([], [])
  rows = [dict(zip(header, one, strict=True)) for one in cells if len(one) == len(header)]
  return [{name: cell for name, cell in row.items() if cell} for row in rows if row["step"].isdecimal()]


def _table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> bytes:
  return _lines([columns, *(_cells(columns, row) for row in rows)])


def _cells(columns: Sequence[str], row: dict[str, Any]) -> list[str]:
  return [str(row.get(name, "")) for name in columns]  # the text of a float gives the same float back


def _lines(lines: Sequence[Sequence[str]]) -> bytes:
  file = io.StringIO(newline="")
  csv.writer(file, lineterminator="\n").writerows(lines)
  return file.getvalue().encode()
