"""Confusion matrices of few-shot tasks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax.report.drawing import GRAY, INK, as_shown, check_names, drawing, shorten, thumbnail
from metajax.types import AnyArray

_RIGHT = ("#f5f6f7", "#d5e6f2", "#7fb3d5", "#0072B2", "#003e63")
_WRONG = ("#f5f6f7", "#fbe3d2", "#f0a878", "#D55E00", "#7d3400")


def confusion_figure(
  counts: AnyArray, asked: AnyArray, names: Sequence[str], path: Path, images: AnyArray | None = None, title: str = ""
):
  """Draws a confusion matrix over few-shot tasks, relative to the tasks that contain both classes.

  Rows are true classes, columns predictions, cells the percentages of `confusion_percentages`: correct ones in blue,
  wrong ones in vermilion, with a scale up to the largest. Numbers are written in all cells for up to 12 classes, and on
  the diagonal for up to 25.

  Args:
    counts: number of queries of class i predicted as j, `[classes, classes]`.
    asked: number of queries of class i in tasks with j among the ways, `[classes, classes]`.
    names: names of the classes; long ones are shortened in the middle.
    path: PNG file; missing folders are created.
    images: one image of each class, drawn next to its name: `[classes, h, w, c]`, uint8 or floats in [0, 1].
    title: title of the figure.

  Raises:
    ValueError: if shapes or names do not fit each other, or a count exceeds `asked`.
  """
  percent = confusion_percentages(counts, asked)
  classes = len(percent)
  names = [shorten(name, 24) for name in check_names(names, classes)]
  images = _images(images, classes)
  cell = min(0.62, 9 / (classes + 5)) if classes > 4 else 0.8
  gutter = 0 if images is None else 1  # cells taken by the images, left of the rows and above the columns
  longest = max(len(name) for name in names) * 0.075
  side = cell * (classes + gutter)
  with drawing(path, side + longest + 1.3, side + longest * 0.75 + 0.9) as figure:
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set(xlim=(-0.5 - gutter, classes - 0.5), ylim=(classes - 0.5, -0.5 - gutter))
    mappable = _cells(axes, percent)
    points = 72 * cell
    _numbers(axes, percent, points)
    for k in range(classes):
      axes.text(-0.7 - gutter, k, names[k], ha="right", va="center", fontsize=8)
      axes.text(k, -0.62 - gutter, names[k], ha="left", va="bottom", rotation=50, rotation_mode="anchor", fontsize=8)
      if images is not None:
        for place in ((-1.05, k), (k, -1.05)):
          thumbnail(axes, images[k], place, 0.72 * points)
    if mappable is not None:
      bar = figure.colorbar(mappable, ax=axes, location="bottom", shrink=0.45, aspect=30, pad=0.04)
      bar.set_label("wrong predictions, % of queries in tasks with both classes", fontsize=8)
      bar.outline.set_visible(False)
      bar.ax.tick_params(length=0)
    explained = "rows: true class · columns: prediction · empty: never in one task"
    axes.text(-0.5, classes - 0.25, explained, va="top", color=GRAY, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")


def confusion_percentages(counts: AnyArray, asked: AnyArray) -> np.ndarray:
  """`100 counts / asked`, `[classes, classes]`; NaN where `asked` is 0.

  Raises:
    ValueError: if the arguments are not two arrays `[classes, classes]`, or a count is not from 0 to `asked`.
  """
  counts, asked = np.asarray(counts, float), np.asarray(asked, float)
  if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape != asked.shape or not counts.size:
    raise ValueError(f"expected two arrays [classes, classes], got {list(counts.shape)} and {list(asked.shape)}")
  if not np.all((counts >= 0) & (counts <= asked)):
    raise ValueError("expected counts from 0 to the number asked, got some outside")
  return np.where(asked > 0, 100 * counts / np.where(asked > 0, asked, 1), np.nan)


def _images(images, classes):
  if images is None:
    return None
  shown = as_shown(images)
  if len(shown) != classes:
    raise ValueError(f"expected an image for each of {classes} classes, got {len(shown)}")
  return shown


def _cells(axes, percent):
  """Draws the cells, and returns the color scale of wrong predictions, or None without any."""
  from matplotlib.colors import LinearSegmentedColormap, PowerNorm

  right = np.eye(len(percent), dtype=bool)
  wrong = np.where(right, np.nan, percent)
  edges = np.arange(len(percent) + 1) - 0.5
  settings = {"edgecolors": "white", "linewidth": 1.5 if len(percent) <= 25 else 0.4}
  blue = LinearSegmentedColormap.from_list("right", _RIGHT)
  axes.pcolormesh(edges, edges, np.where(right, percent, np.nan), cmap=blue, vmin=0, vmax=130, **settings)
  if not np.any(wrong > 0):
    axes.pcolormesh(edges, edges, wrong, cmap=LinearSegmentedColormap.from_list("none", _WRONG[:1] * 2), **settings)
    return None
  vermilion = LinearSegmentedColormap.from_list("wrong", _WRONG)
  scale = PowerNorm(0.6, vmin=0, vmax=1.15 * np.nanmax(wrong))  # keeps a few per cent visible next to the worst
  return axes.pcolormesh(edges, edges, wrong, cmap=vermilion, norm=scale, **settings)


def _numbers(axes, percent, points):
  dark = {True: 100, False: np.nanmax(np.where(np.eye(len(percent)), 0, percent), initial=0)}
  for i, j in np.ndindex(percent.shape):
    value = float(percent[i, j])
    if np.isnan(value) or len(percent) > 25 or (len(percent) > 12 and i != j):
      continue
    said = "0" if value == 0 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    color = "white" if value > 0.55 * dark[i == j] else GRAY if value == 0 else INK
    axes.text(j, i, said, ha="center", va="center", color=color, fontsize=min(9, 0.3 * points))
