"""Comparison of queries with support images: a table of the learner's values."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax.report.drawing import (
  GRAY,
  GREEN,
  INK,
  VERMILION,
  as_shown,
  check_names,
  drawing,
  shorten,
  thumbnail,
  wrapped,
)
from metajax.types import AnyArray, Episode

_LEAST_WIDTH = 4.0  # inches; names and the caption need room even with few columns
_SHADES = ("#f5f6f7", "#d5e6f2", "#7fb3d5", "#0072B2", "#003e63")


def comparison_figure(
  episode: Episode,
  values: AnyArray,
  path: Path,
  *,
  measure: str,
  best: str = "largest",
  names: Sequence[str] | None = None,
  queries: int = 8,
  title: str = "",
):
  """Draws a table of values: a row per query, a column per support image.

  Better cells are darker. The best cell of each row is framed: green if its class is correct, otherwise vermilion.
  Queries are taken from the ways in turn.

  Args:
    episode: an `Episode` of images `[n, h, w, c]` in [0, 1], without a leading `[tasks]`.
    values: value of each pair, `[queries, support]`.
    path: PNG file; missing folders are created.
    measure: name of the values, e.g. "attention".
    best: "largest" or "smallest".
    names: names of the ways, drawn above their support images.
    queries: largest number of queries.
    title: title of the figure.

  Raises:
    ValueError: if the shapes do not fit, a way has no name, or `best` is unknown.
  """
  values, expected = np.asarray(values, float), tuple(len(part.labels) for part in reversed(episode))
  if values.shape != expected:
    raise ValueError(f"expected values {list(expected)}, a row per query and a column per support image, got "
                     f"{list(values.shape)}")  # fmt: skip
  if best not in ("largest", "smallest"):
    raise ValueError(f"expected best to be 'largest' or 'smallest', got {best!r}")
  ways, truth = (np.asarray(part.labels).argmax(-1) for part in episode)
  names = None if names is None else check_names(names, np.shape(episode.support.labels)[-1])
  columns = np.argsort(ways, kind="stable")
  rows = _in_turn(truth)[:queries]
  values = values[rows][:, columns]
  known, asked = as_shown(episode.support.inputs)[columns], as_shown(episode.query.inputs)[rows]
  ways, truth = ways[columns], truth[rows]
  cell = min(0.8, 9.6 / (len(columns) + 2))
  width = max(_LEAST_WIDTH, cell * (len(columns) + 1.5) + 0.4)
  with drawing(path, width, cell * (len(rows) + 1.6) + 0.9) as figure:
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set(xlim=(-1.7, len(columns) - 0.5), ylim=(len(rows) - 0.5, -1.7))
    for k, image in enumerate(known):
      thumbnail(axes, image, (k, -1.1), 72 * cell * 0.75, INK)
      if names is not None and (k == 0 or ways[k] != ways[k - 1]):
        axes.text(k - 0.4, -1.68, shorten(names[ways[k]], 16), ha="left", va="bottom", rotation=30, fontsize=7)
    for i, image in enumerate(asked):
      thumbnail(axes, image, (-1.1, i), 72 * cell * 0.75)
    _numbers(axes, values if best == "largest" else -values, values, ways, truth, 72 * cell)
    said = f"rows: queries · columns: support images · values: {measure} (the {best} is best)"
    axes.text(-1.6, len(rows) - 0.35, wrapped(said, int(width * 14), 3), va="top", color=GRAY, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")


def _in_turn(truth: np.ndarray) -> np.ndarray:
  """Indices of queries: the first one of each way, then the second ones, and so on."""
  turn = np.zeros(len(truth), int)
  for way in np.unique(truth):
    turn[truth == way] = np.arange((truth == way).sum())
  return np.lexsort((truth, turn))


def _numbers(axes, good, values, ways, truth, points):
  from matplotlib.colors import LinearSegmentedColormap
  from matplotlib.patches import Rectangle

  low, high = good.min(-1, keepdims=True), good.max(-1, keepdims=True)
  shade = (good - low) / np.where(high > low, high - low, 1)
  edges = [np.arange(n + 1) - 0.5 for n in shade.shape[::-1]]
  colors = LinearSegmentedColormap.from_list("good", _SHADES)
  axes.pcolormesh(*edges, shade, cmap=colors, vmin=0, vmax=1, edgecolors="white", linewidth=1)
  for (i, j), value in np.ndenumerate(values):
    color = "white" if shade[i, j] > 0.6 else INK
    axes.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=min(8, 0.22 * points), color=color)
  for i, j in enumerate(good.argmax(-1)):
    frame = GREEN if ways[j] == truth[i] else VERMILION
    axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=frame, linewidth=2.5))
