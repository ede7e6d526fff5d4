"""A grid of questions with a network's predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax.report.drawing import GREEN, VERMILION, as_shown, check_names, drawing, shorten
from metajax.types import AnyArray

COLUMNS = 4


def predictions_figure(
  images: AnyArray, truth: Sequence[str], answers: Sequence[str], path: Path, *, confidence: AnyArray | None = None
):
  """Draws questions in a grid, and below each what the network answered: in green where it is true, else in vermilion,
  with the truth beside it.

  Args:
    images: `[n, h, w, c]`, uint8 or floats in [0, 1]: what was asked about, such as tiles side by side.
    truth: `[n]`.
    answers: `[n]`.
    path: a PNG file, its folder made where it is missing.
    confidence: `[n]`, the probabilities of the answers, 0 to 1.

  Raises:
    ValueError: if there is no question, or not a truth and an answer for each.
  """
  if not len(images):
    raise ValueError("expected at least one question, got none")
  shown = as_shown(images)
  truth, answers = (check_names(names, len(shown)) for names in (truth, answers))
  if confidence is not None and np.shape(confidence) != (len(shown),):
    raise ValueError(f"expected a confidence for each of {len(shown)} answers, got {list(np.shape(confidence))}")
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
      said = shorten(answers[i], 30) + sure + ("" if right else f"\nin truth {shorten(truth[i], 26)}")
      axes.set_xlabel(said, fontsize=7.5, color=GREEN if right else VERMILION)
