"""The look that all drawings share: colors for light and dark pages, text as text, a transparent ground."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class Colors(NamedTuple):
  """Colors of a drawing; the accents are those of Okabe and Ito, which color-blind readers tell apart."""

  ink: str
  faint: str
  fill: str
  blue: str
  orange: str
  green: str


LIGHT = Colors("#1f2328", "#6e7781", "#f0f3f6", "#0072b2", "#d55e00", "#009e73")
DARK = Colors("#e6edf3", "#9198a1", "#262c36", "#56b4e9", "#f0a060", "#40c49c")


@contextmanager
def drawing(path: Path, dark: bool, width: float, height: float) -> Iterator[tuple[Axes, Colors]]:
  """Yields axes without a frame, of one unit per inch, and the colors; writes an SVG file at the end."""
  settings = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "metajax"}
  with matplotlib.rc_context(settings):
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    yield axes, DARK if dark else LIGHT
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
