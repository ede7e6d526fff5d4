"""A grid of images with a network's predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax.report.drawing import GREEN, VERMILION, as_shown, check_names, drawing, shorten
from metajax.types import AnyArray

COLUMNS = 4


def predictions_figure(
  images: AnyArray, truth: Sequence[str], answers: Sequence[str], path: Path, *, confidence: AnyArray | None = None
):
  """Draws images in a grid, each with its prediction below: green if correct, otherwise vermilion with the truth.

  Args:
    images: inputs of the network, e.g. tiles side by side: `[n, h, w, c]`, uint8 or floats in [0, 1].
    truth: true label of each image, `[n]`.
    answers: predicted label of each image, `[n]`.
    path: PNG file; missing folders are created.
    confidence: probability of each prediction, 0 to 1, `[n]`.

  Raises:
    ValueError: if `images` is empty, or an image has no truth or prediction.
  """
  if not len(images):
    raise ValueError("expected at least one image, got none")
  shown = as_shown(images)
  truth, answers = (check_names(names, len(shown)) for names in (truth, answers))
  if confidence is not None and np.shape(confidence) != (len(shown),):
    raise ValueError(f"expected a confidence for each of {len(shown)} predictions, got {list(np.shape(confidence))}")
  columns = min(COLUMNS, len(shown))
  rows, wide = -(-len(shown) // columns), 9.6 / COLUMNS
  tall = min(1.6, wide * shown.shape[1] / shown.shape[2]) + 0.5
  with drawing(path, wide * columns, tall * rows) as figure:
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
      axes.axis("off")
    for i, axes in zip(range(len(shown)), grid.flat, strict=False):
      right = truth[i] == answers[i]
      axes.axis("on")
      axes.imshow(shown[i], interpolation="nearest")
      axes.set(xticks=[], yticks=[])
      for spine in axes.spines.values():
        spine.set_visible(False)
      sure = "" if confidence is None else f" ({100 * float(np.asarray(confidence)[i]):.0f}%)"
      said = shorten(answers[i], 30) + sure + ("" if right else f"\ntruth: {shorten(truth[i], 26)}")
      axes.set_xlabel(said, fontsize=7.5, color=GREEN if right else VERMILION)
