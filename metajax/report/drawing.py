"""Style, colors and helpers shared by all figures, which are drawn without pyplot."""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from metajax.mesh import is_primary_host
from metajax.paths import place, writing
from metajax.types import AnyArray

# Okabe and Ito's colors, safe for the color-blind (without yellow, which is faint on white).
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, "#E69F00", "#56B4E9", "#5C5C5C")
INK, GRAY, FAINT = "#1f2328", "#6b7280", "#e3e6ea"
DOTS_PER_INCH = 192  # two dots per CSS pixel of the page

_STYLE = {
  "font.size": 9,
  "text.color": INK,
  "text.parse_math": False,  # a name may hold dollar signs
  "axes.edgecolor": "#b8bec6",
  "axes.labelcolor": GRAY,
  "axes.linewidth": 0.8,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.axisbelow": True,
  "axes.grid": True,
  "axes.titlelocation": "left",
  "axes.titlesize": 10,
  "axes.prop_cycle": f"cycler('color', {list(COLORS)})",
  "grid.color": "#eef0f2",
  "xtick.color": "#b8bec6",
  "ytick.color": "#b8bec6",
  "xtick.labelcolor": GRAY,
  "ytick.labelcolor": GRAY,
  "xtick.labelsize": 8,
  "ytick.labelsize": 8,
  "legend.frameon": False,
  "legend.fontsize": 8,
  "lines.linewidth": 1.6,
}
# Installed ones supply the characters that matplotlib's default typeface lacks.
_FALLBACKS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC", "Microsoft YaHei")
_FALLBACKS += ("Malgun Gothic", "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Ethiopic", "Noto Sans")


@contextmanager
def drawing(path: Path, width: float, height: float) -> Generator:
  """A context manager that yields an empty matplotlib Figure and writes it to a PNG file at the end.

  Args:
    path: PNG file.
    width, height: size of the figure in inches.

  Raises:
    ValueError: if the path is a URL of a scheme that is not opened here.
  """
  import warnings

  from matplotlib import style
  from matplotlib.figure import Figure
  from matplotlib.font_manager import fontManager

  path = place("the figure", path)
  installed = set(fontManager.get_font_names())
  family = ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]
  with style.context(["default", {**_STYLE, "font.family": family}]), warnings.catch_warnings():
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing")  # it is drawn as a box
    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure
    if not is_primary_host():  # the primary host writes for all
      return
    with writing(path) as file:
      figure.savefig(file, dpi=DOTS_PER_INCH, format="png", bbox_inches="tight", pad_inches=0.08)


def as_shown(images: AnyArray) -> np.ndarray:
  """Converts images `[n, h, w, c]`, uint8 or floats in [0, 1], to `[n, h, w, 3]` in [0, 1] for `imshow`.

  Images of one channel that are mostly 0 count as drawings and are inverted, to dark ink on white.
  """
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
    raise ValueError(f"expected images [n, height, width, 1 or 3], got shape {list(images.shape)}")
  scaled = images / 255 if images.dtype == np.uint8 else images.astype(np.float32)
  scaled = np.nan_to_num(scaled).clip(0, 1)[..., :3]
  if scaled.shape[-1] == 1:
    scaled = 1 - scaled if np.mean(scaled < 0.1) > 0.5 else scaled
  return np.broadcast_to(scaled, (*scaled.shape[:3], 3))


def clean(name: object) -> str:
  """A name on one line, without unprintable characters."""
  text = str(name).encode("utf-8", "replace").decode()
  return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def shorten(name: object, characters: int) -> str:
  """A name of at most `characters` characters; an ellipsis replaces the middle, since ends distinguish names."""
  text = clean(name)
  if len(text) <= characters:
    return text
  head = math.ceil((characters - 1) / 2)
  return f"{text[:head].rstrip()}…{text[len(text) - (characters - 1 - head) :].lstrip()}"


def wrapped(name: object, characters: int, lines: int) -> str:
  """A name on at most `lines` lines of `characters` characters, shortened if necessary."""
  import textwrap

  for short in range(characters * lines, 0, -1):  # word wrapping leaves gaps, so the length that fits is searched
    folded = textwrap.wrap(shorten(name, short), characters)
    if len(folded) <= lines:
      break
  return "\n".join(folded)


def check_names(names: Sequence, classes: int) -> list[str]:
  """The names as strings; raises unless there is one per class."""
  if len(names) != classes:
    raise ValueError(f"expected a name for each of {classes} classes, got {len(names)}")
  return [clean(name) for name in names]


def thumbnail(
  axes: Any, image: np.ndarray, place: tuple[float, float], points: float, color: str = FAINT, **settings: Any
):
  """Draws a framed image `[h, w, 3]` at data coordinates `place`, `points` points wide and high."""
  from matplotlib.offsetbox import AnnotationBbox, OffsetImage

  # An OffsetImage is drawn at 72 dots per inch, whatever the figure's resolution.
  thumb = OffsetImage(image, zoom=points / max(image.shape[:2]), interpolation="antialiased")
  frame = {"edgecolor": color, "linewidth": 1.2, "facecolor": "white"}
  axes.add_artist(AnnotationBbox(thumb, place, pad=0.1, bboxprops=frame, annotation_clip=False, **settings))
