"""Figures of a task with predictions, of curves, and of sample images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax import checks
from metajax.report.drawing import FAINT, GREEN, INK, PURPLE, VERMILION, as_shown, check_names, drawing, wrapped
from metajax.types import AnyArray, Episode


def episode_figure(
  episode: Episode,
  logits: AnyArray,
  path: Path,
  title: str = "",
  queries: int = 8,
  names: Sequence[str] | None = None,
):
  """Draws one task: a row per way, with its support images and then its queries with their predictions.

  Each query is labeled with the predicted way, and framed in green if the prediction is correct, otherwise vermilion.

  Args:
    episode: an `Episode` of images `[n, h, w, c]` in [0, 1], without a leading `[tasks]`.
    logits: `[queries, ways]`.
    path: PNG file; missing folders are created.
    title: title of the figure.
    queries: largest number of queries per way.
    names: names of the ways, drawn at the left of their rows.

  Raises:
    ValueError: if a way has no name, or a logit is not finite.
  """
  checks.finite("logits", logits)  # the argmax of NaNs would be the first way
  support, query = (as_shown(e.inputs) for e in episode)
  ways, truth = (np.asarray(e.labels).argmax(-1) for e in episode)
  guess = np.asarray(logits).argmax(-1)
  characters = [chr(ord("A") + k) if k < 26 else str(k) for k in range(episode.query.labels.shape[-1])]
  names = None if names is None else check_names(names, len(characters))
  rows = [
    (support[ways == k], query[truth == k][:queries], guess[truth == k][:queries]) for k in range(len(characters))
  ]
  shots, across = max(len(s) for s, _, _ in rows), max(len(q) for _, q, _ in rows)
  first = 0 if names is None else 1
  widths = [1.7] * first + [1] * shots + [0.5] + [1] * across
  with drawing(path, 0.5 + 0.8 * sum(widths), 0.6 + 0.95 * len(rows)) as figure:
    grid = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for axes in grid.flat:
      axes.axis("off")
    for k, (examples, asked, guesses) in enumerate(rows):
      if names is not None:
        grid[k, 0].text(0, 0.5, wrapped(names[k], 17, 3), va="center", fontsize=8, transform=grid[k, 0].transAxes)
      for axes, image in zip(grid[k, first:], examples, strict=False):
        _draw(axes, image, characters[k], INK)
      for axes, image, answer in zip(grid[k, first + shots + 1 :], asked, guesses, strict=False):
        _draw(axes, image, characters[answer], GREEN if answer == k else VERMILION)
    figure.suptitle(title, fontsize=10)


def curves_figure(
  curves: dict[str, tuple[AnyArray, AnyArray]],
  path: Path,
  *,
  points: tuple[AnyArray, AnyArray] | None = None,
  x: str = "",
  y: str = "",
  title: str = "",
):
  """Draws named curves in one figure, optionally with points.

  Args:
    curves: `{name: (x, y)}`; the curve "truth" is drawn in black.
    path: PNG file; missing folders are created.
    points: `(x, y)` of dots on top of the curves, labeled "support".
    x, y: labels of the axes.
    title: title of the figure.
  """
  with drawing(path, 6.4, 4) as figure:
    axes = figure.subplots()
    for name, (across, up) in curves.items():
      axes.plot(np.asarray(across), np.asarray(up), label=name, color=INK if name == "truth" else None)
    if points is not None:
      axes.plot(*map(np.asarray, points), "o", color=PURPLE, label="support")
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.legend()


def contact_sheet_figure(images: AnyArray, names: Sequence[str], path: Path, title: str = ""):
  """Draws sample images in a grid, each with its class name below.

  Args:
    images: at least one image, `[n, h, w, c]`, uint8 or floats in [0, 1], c being 1 or 3.
    names: name of each image, `[n]`, on at most two lines; long ones are shortened in the middle.
    path: PNG file; missing folders are created.
    title: title of the figure.

  Raises:
    ValueError: if `images` is empty, or an image has no name.
  """
  images = as_shown(images)
  names = check_names(names, len(images))
  if not len(images):
    raise ValueError("expected at least one image, got none")
  columns = min(len(images), 8 if len(images) <= 48 else 12)
  rows, size = -(-len(images) // columns), 9.6 / max(columns, 6)
  characters = int(size * 13)
  with drawing(path, size * columns, (size + 0.28) * rows + 0.35 * bool(title)) as figure:
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
      axes.axis("off")
    for axes, image, name in zip(grid.flat, images, names, strict=False):
      _draw(axes, image, "", FAINT, width=1)
      axes.set_xlabel(wrapped(name, characters, 2), fontsize=7, labelpad=3)
    figure.suptitle(title, fontsize=10)


def _draw(axes, image, name, color, width=2):
  axes.axis("on")
  axes.set(xticks=[], yticks=[])
  axes.grid(False)
  axes.set_title(name, fontsize=8, color=color, pad=2, loc="center")
  axes.imshow(image)
  for spine in axes.spines.values():
    spine.set(visible=True, color=color, linewidth=width)
