"""What tables of the benchmarks' page are made of."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Form(NamedTuple):
  """How a benchmark's records are shown.

  Attributes:
    table: records to lines of Markdown.
    draw: what draws a figure beside the file of records.
  """

  table: Callable[[list[dict]], list[str]]
  draw: Callable[[Path], None]


def cells(*texts: str) -> str:
  """A row of a table."""
  return f"| {' | '.join(texts)} |"


def heading(*names: str) -> list[str]:
  """The two rows above the others."""
  return [cells(*names), cells(*["---"] * len(names))]


def by_measure(rows: list[dict], column: str) -> dict[str, dict]:
  """`{what was measured: {value of the column: its record}}`."""
  names = dict.fromkeys(r["measure"] for r in rows)
  return {name: {r[column]: r for r in rows if r["measure"] == name} for name in names}
