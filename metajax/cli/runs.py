"""Lists runs: their state, the flags in which they differ, their scores and their training times.

python -m metajax.cli.runs runs
"""

import csv as csv_format
import io
import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metajax.experiment.bounds import RunPaths
from metajax.experiment.command_line import command
from metajax.experiment.configuration import shown
from metajax.experiment.flags import LONGEST, dashed
from metajax.experiment.summaries import Summary, summary_of
from metajax.experiment.terminal import printable
from metajax.paths import remote

UNCOMPARED = {"folder", "resume", "output", "record", "checkpoint_every", "keep", "profile", "debug_nans", "download"}
FORMULA = tuple("=+-@\t\r")  # a spreadsheet runs a text that begins so
NUMBER = re.compile(r"(-?[\d.]+(e[+-]?\d+)?( ± .*)?|[\d:]+)?")
GAP = 3  # characters between columns on a terminal


class Column(NamedTuple):
  """A column of the table.

  Attributes:
    heading: Its heading.
    texts: Its cells as text.
    values: Its cells for a spreadsheet: `{heading: cells}`.
    rank: Columns of the highest rank are left out first where a terminal is too narrow.
  """

  heading: str
  texts: list[str]
  values: dict[str, list[Any]]
  rank: int


def runs(folders: RunPaths = (Path("runs"),), csv: bool = False):
  """Lists the runs in folders, newest last.

  Args:
    folders: Folders of runs, or runs.
    csv: Print CSV with all digits, for spreadsheets, instead of a table.
  """
  found = sorted(_summaries(folders), key=lambda run: (run.started, str(run.folder)))
  columns = _columns(found, [_name(run.folder, folders) for run in found])
  if csv:
    _print_csv(found, columns)
  elif sys.stdout.isatty():
    _print_on_terminal(columns)
  else:
    _print_plain(columns)


def _summaries(folders: Sequence[Path]) -> Iterator[Summary]:
  """The runs; reports those that cannot be read."""
  for folder in _run_folders(folders):
    try:
      run = summary_of(folder)
    except (OSError, ValueError) as error:
      print(f"left out: {printable(str(error))}", file=sys.stderr)
      continue
    if run.problem:
      print(f"without scores: {printable(run.problem)}", file=sys.stderr)
    yield run


def _run_folders(folders: Sequence[Path]) -> list[Path]:
  """The folders of the runs, each once; folders that are no runs are ignored.

  Raises:
    FileNotFoundError: if a given folder does not exist.
  """
  found = {}
  for folder in folders:
    if not folder.is_dir():
      raise FileNotFoundError(
        f"expected a folder of runs, got {str(folder)!r}, which is no folder in {os.getcwd()!r}: each training makes "
        "one, in `runs` unless --folder says otherwise"
      )
    for path in [folder] if _is_run(folder) else sorted(filter(_is_run, folder.iterdir())):
      found.setdefault(str(path) if remote(path) else os.path.realpath(path), path)
  return list(found.values())


def _is_run(folder: Path) -> bool:
  path = folder / "run.json"
  return path.exists() if remote(path) else os.path.lexists(path)


def _name(run: Path, folders: Sequence[Path]) -> str:
  """The name of a run's folder, or its path if several folders are given."""
  return printable(str(run) if len(folders) > 1 else run.name if remote(run) else run.resolve().name)


def _columns(found: list[Summary], names: list[str]) -> list[Column]:
  """The columns of the table, in their order."""
  experiments = [printable(run.experiment) for run in found]
  short = [name.rpartition(".")[2] for name in experiments]
  folders = [printable(str(run.folder)) for run in found]
  columns = [
    Column("run", names, {"run": names, "folder": folders}, 0),
    Column("experiment", short, {"experiment": experiments}, 5 if len(set(experiments)) > 1 else 9),
    _column("state", [printable(run.state) for run in found], 0),
    _column("started", [printable(run.started) for run in found], 8),
    *(_flag(name, found) for name in _different_flags(found)),
    *(_figure(name, found, rank=1 if i == 0 else 6) for i, name in enumerate(_each_once(run.figures for run in found))),
    Column("training time", [_time(run.seconds) for run in found], {"training seconds": [r.seconds for r in found]}, 7),
  ]
  return columns


def _column(heading: str, texts: list[str], rank: int) -> Column:
  return Column(heading, texts, {heading: texts}, rank)


def _flag(name: str, found: list[Summary]) -> Column:
  heading = printable(dashed(name))
  given = [run.flags.get(name, "") for run in found]
  texts = [printable(shown(value)) for value in given]
  values = [value if isinstance(value, int | float) else text for value, text in zip(given, texts, strict=True)]
  return Column(f"--{heading}", texts, {heading: values}, 4)


def _figure(name: str, found: list[Summary], rank: int) -> Column:
  heading, figures = printable(name), [run.figures.get(name, (None, None)) for run in found]
  values, intervals = ([figure[i] for figure in figures] for i in (0, 1))
  texts = [
    "" if value is None else f"{value:g}" if interval is None else f"{value:g} ± {interval:g}"
    for value, interval in figures
  ]
  return Column(heading, texts, {heading: values, f"{heading}, 95% interval ±": intervals}, rank)


def _different_flags(found: list[Summary]) -> list[str]:
  """The flags in which runs that have them differ."""
  names = [name for name in _each_once(run.flags for run in found) if name not in UNCOMPARED]
  return [name for name in names if len({shown(run.flags[name]) for run in found if name in run.flags}) > 1]


def _each_once(names: Iterable[Iterable[str]]) -> list[str]:
  return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def _time(seconds: float | None) -> str:
  if seconds is None:
    return ""
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _print_csv(found: list[Summary], columns: list[Column]):
  """Prints CSV as of RFC 4180; a text that a spreadsheet would run as a formula begins with an apostrophe."""
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(newline="")
  values = {name: cells for column in columns for name, cells in column.values.items()}
  table = csv_format.writer(sys.stdout)
  for row in ([*values], *zip(*values.values(), strict=True)):
    table.writerow([f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in row])


def _print_plain(columns: list[Column]):
  """Prints aligned text, a line per run."""
  columns = [column for column in columns if column.rank < 9]
  table = _table(columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
  text = io.StringIO()
  Console(file=text, width=10**6, color_system=None, legacy_windows=False).print(table, soft_wrap=True)
  for line in text.getvalue().splitlines():
    print(line.rstrip())


def _print_on_terminal(columns: list[Column]):
  """Prints a table that fits the terminal: long cells are folded, and columns of high rank are left out."""
  console = Console()
  kept = [column for column in columns if column.rank < 9]
  left_out = []
  while sum(map(_least_width, kept)) - GAP > console.width and max(column.rank for column in kept):
    last = max(range(len(kept)), key=lambda i: (kept[i].rank, i))
    left_out.append(kept.pop(last).heading)
  console.print(_table(kept, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False))
  if left_out:
    console.print(Text(f"left out at this width: {', '.join(left_out)}; --csv prints all"))


def _table(columns: list[Column], **how: Any) -> Table:
  table = Table(**how)
  for column in columns:
    justify = "right" if all(map(NUMBER.fullmatch, column.texts)) else "left"
    fits = max(map(cell_len, (column.heading, *column.texts))) + GAP <= _least_width(column)
    table.add_column(Text(column.heading), overflow="fold", justify=justify, no_wrap=fits)
  for row in zip(*(column.texts for column in columns), strict=True):
    table.add_row(*(Text(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…") for text in row))
  return table


def _least_width(column: Column) -> int:
  """The width that a column needs where it is folded: of its longest word, or a part of it."""
  words = [word for text in (column.heading, *column.texts) for word in text.split()]
  return min(max(map(cell_len, words), default=0), 16) + GAP


if __name__ == "__main__":
  command(runs, on_hosts=False)
