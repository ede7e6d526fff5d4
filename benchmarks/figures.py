"""Figures with two rows of panels, time or throughput above memory, one column per setting."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metajax.paths import writing

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def two_rows(columns: int, width: float, height: float) -> "tuple[Figure, np.ndarray]":
  """An empty figure with `columns` columns, each `width` inches wide, and its axes `[2, columns]`."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width * columns + 1.5, height), layout="constrained")
  return figure, figure.subplots(2, columns, squeeze=False, sharex=True)


def points(rows: Iterable[dict], column: str, key: str) -> list[tuple]:
  """Pairs (value of the column, value of the key) of the records with a nonzero key, as logarithmic axes require."""
  return [(r[column], r[key]) for r in rows if r.get(key)]


def save(figure: "Figure", path: Path):
  """Writes the figure as NAME.png next to a file of records, with one legend for all panels."""
  handles = {label: h for a in figure.axes for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
  figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)
  with writing(path.with_suffix(".png")) as file:
    figure.savefig(file, dpi=110)
