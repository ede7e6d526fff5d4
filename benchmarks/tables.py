"""Building blocks of the tables on the page of the benchmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Form(NamedTuple):
  """The presentation of a benchmark's records.

  Attributes:
    table: `records -> lines of Markdown`.
    draw: `path of the records -> None`: draws a figure next to the file of records.
  """

  table: Callable[[list[dict]], list[str]]
  draw: Callable[[Path], None]


def cells(*texts: str) -> str:
  """A row of a Markdown table."""
  return f"| {' | '.join(texts)} |"


def heading(*names: str) -> list[str]:
  """The two header rows of a Markdown table."""
  return [cells(*names), cells(*["---"] * len(names))]


def by_measure(rows: list[dict], column: str) -> dict[str, dict]:
  """Returns `{measure: {value of the column: record}}`."""
  names = dict.fromkeys(r["measure"] for r in rows)
  return {name: {r[column]: r for r in rows if r["measure"] == name} for name in names}
