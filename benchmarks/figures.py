"""Figures of two rows of panels, time or throughput above memory, a column a setting."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metajax.paths import writing

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def two_rows(columns: int, width: float, height: float) -> "tuple[Figure, np.ndarray]":
  """An empty figure of so many columns, each `width` inches wide, and its axes `[2, columns]`."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width * columns + 1.5, height), layout="constrained")
  return figure, figure.subplots(2, columns, squeeze=False, sharex=True)


def points(rows: Iterable[dict], column: str, key: str) -> list[tuple]:
  """(value of the column, of the key) of the records where the key's is above 0, as logarithmic axes need it."""
  return [(r[column], r[key]) for r in rows if r.get(key)]


def save(figure: "Figure", path: Path):
  """Writes it beside a file of records, with one legend for all panels: NAME.png."""
  handles = {label: h for a in figure.axes for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
  figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)
  with writing(path.with_suffix(".png")) as file:
    figure.savefig(file, dpi=110)
