"""Similarity matrix of images and texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax import checks
from metajax.report.drawing import GREEN, INK, VERMILION, as_shown, check_names, drawing, shorten, thumbnail
from metajax.types import AnyArray


def similarity_figure(images: AnyArray, texts: Sequence[str], cosines: AnyArray, path: Path, *, title: str = ""):
  """Draws a matrix of cosines: a row per image, a column per text; text `i` matches image `i`.

  Darker is nearer. The nearest text of each image is framed: green if it matches, otherwise vermilion.

  Args:
    images: `[n, h, w, c]`, uint8 or floats in [0, 1].
    texts: text of each image, `[n]`.
    cosines: cosine of each image with each text, `[n, n]`.
    path: PNG file; missing folders are created.
    title: title of the figure.

  Raises:
    ValueError: if the shapes do not fit, or a cosine is not finite.
  """
  shown, cosines = as_shown(images), np.asarray(cosines, float)
  texts, n = check_names(texts, len(shown)), len(shown)
  if cosines.shape != (n, n):
    raise ValueError(f"expected cosines [{n}, {n}], got {list(cosines.shape)}")
  checks.finite("cosines", cosines)
  cell = 0.42
  with drawing(path, cell * (n + 1.5) + 2.6, cell * (n + 1) + 0.4) as figure:
    axes = figure.subplots()
    low, high = np.quantile(cosines, [0.02, 1])
    axes.imshow(cosines, cmap="Blues", vmin=low, vmax=high + 1e-6)
    axes.grid(False)
    axes.set_yticks(range(n), [shorten(text, 34) for text in texts], fontsize=7, color=INK)
    axes.yaxis.tick_right()
    axes.set_xticks([])
    axes.tick_params(length=0)
    for i, row in enumerate(cosines):
      thumbnail(axes, shown[i], (-1.2, i), 24)
      thumbnail(axes, shown[i], (i, -1.2), 24)
      best = int(row.argmax())
      box = {"fill": False, "linewidth": 1.6, "edgecolor": GREEN if best == i else VERMILION}
      axes.add_patch(_square(best, i, **box))
    axes.set_xlim(-2, n - 0.5)
    axes.set_ylim(n - 0.5, -2)
    for spine in axes.spines.values():
      spine.set_visible(False)
    figure.suptitle(title, fontsize=10)


def _square(x, y, **box):
  from matplotlib.patches import Rectangle

  return Rectangle((x - 0.5, y - 0.5), 1, 1, **box)
