"""A montage of images, each with a smaller one beside it and a line of text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax.report.drawing import GRAY, INK, VERMILION, as_shown, drawing, shorten
from metajax.types import AnyArray

COLUMNS = 6
WIDTH = 9.6  # inches


def montage_figure(
  images: AnyArray, beside: AnyArray, texts: Sequence[str], path: Path, *, marked: Sequence[bool] | None = None
):
  """Draws images in a grid, each with a related image at half its size, and a line of text below.

  Args:
    images: `[n, h, w, c]`, uint8 or floats in [0, 1].
    beside: Related image of each, of the same shape.
    texts: Text below each image.
    path: PNG file; missing folders are created.
    marked: Images whose text is drawn in vermilion.

  Raises:
    ValueError: If there are no images, or the numbers differ.
  """
  images, beside = np.asarray(images), np.asarray(beside)
  marked = [False] * len(images) if marked is None else marked
  if not len(images) or not len(images) == len(beside) == len(texts) == len(marked):
    given = f"{len(images)}, {len(beside)}, {len(texts)} and {len(marked)}"
    raise ValueError(f"expected as many images, images beside them, texts and marks, at least one, got {given}")
  images, beside = as_shown(images), as_shown(beside)
  columns = min(COLUMNS, len(images))
  rows, cell = -(-len(images) // columns), WIDTH / COLUMNS
  with drawing(path, cell * columns, (0.66 * cell + 0.26) * rows) as figure:
    axes = figure.subplots()
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.axis("off")
    tall = 0.66 * cell / (0.66 * cell + 0.26)  # share of a row that the image takes
    for i, (image, other, text) in enumerate(zip(images, beside, texts, strict=True)):
      x, y = i % columns, i // columns
      axes.imshow(image, extent=(x + 0.02, x + 0.64, y + 0.97 * tall, y + 0.02), interpolation="nearest", aspect="auto")
      axes.imshow(
        other, extent=(x + 0.66, x + 0.97, y + 0.97 * tall, y + 0.5 * tall), interpolation="nearest", aspect="auto"
      )
      axes.text(
        x + 0.02, y + tall + 0.02, shorten(text, 26), fontsize=6.5, va="top", color=VERMILION if marked[i] else INK
      )
      axes.text(x + 0.66, y + 0.47 * tall, "nearest", fontsize=5, va="bottom", color=GRAY)
