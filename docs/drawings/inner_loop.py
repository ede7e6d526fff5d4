"""An inner loop of three steps and its gradient: what reverse mode keeps of each step, and what mixed mode keeps."""

from pathlib import Path

from _style import Colors, drawing
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

STEPS, LEFT, EACH = 3, 0.35, 1.55


def draw(path: Path, dark: bool):
  """Draws the loop twice, one above the other."""
  with drawing(path, dark, 6.2, 5.6) as (axes, colors):
    _loop(axes, colors, 5.3, "Reverse over reverse")
    for i in range(STEPS):
      _kept(axes, colors, _middle(i), 4.05, [colors.orange] * 6)
    axes.text(_middle(0) - 0.62, 2.98, "kept: the activations of each gradient", color=colors.orange)

    _loop(axes, colors, 2.55, "Forward over reverse (mixed)")
    for i in range(STEPS):
      _kept(axes, colors, _middle(i), 1.3, [colors.blue, colors.green])
    axes.text(_middle(0) - 0.62, 0.65, "kept: the parameters", color=colors.blue)
    axes.text(_middle(1) - 0.62, 0.65, "and the gradient", color=colors.green)
    axes.text(_middle(0) - 0.62, 0.35, "going back, a step is one jvp of its gradient", color=colors.faint)


def _middle(step: int) -> float:
  return LEFT + 0.2 + EACH * (step + 0.5)


def _loop(axes: Axes, colors: Colors, top: float, title: str):
  """Parameters and steps from left to right, the query loss, and the cotangents back from right to left."""
  axes.text(LEFT - 0.2, top, title, va="center", color=colors.ink, weight="bold")
  row = top - 0.5
  forward = {"arrowstyle": "-|>", "color": colors.ink, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
  backward = forward | {"color": colors.faint, "linestyle": "--"}
  for i in range(STEPS + 1):
    axes.text(LEFT + EACH * i, row, rf"$\phi_{i}$", ha="center", va="center", color=colors.ink, size=13)
  for i in range(STEPS):
    middle = _middle(i) - 0.2
    box = (middle - 0.36, row - 0.17)
    axes.add_patch(FancyBboxPatch(box, 0.72, 0.34, boxstyle="round,pad=0.02", fc=colors.fill, ec=colors.faint))
    axes.text(middle, row, "step", ha="center", va="center", color=colors.ink)
    axes.annotate("", (middle - 0.4, row), (middle - 0.62, row), arrowprops=forward)
    axes.annotate("", (middle + 0.62, row), (middle + 0.4, row), arrowprops=forward)
    axes.annotate("", (middle - 0.72, row - 0.45), (middle + 0.68, row - 0.45), arrowprops=backward)
    axes.text(middle - 0.55, row - 0.62, rf"$v_{i}$", ha="center", va="center", color=colors.faint, size=11)
  end = LEFT + EACH * STEPS
  axes.annotate("", (end + 0.42, row), (end + 0.17, row), arrowprops=forward)
  axes.text(end + 0.46, row, "query\nloss", va="center", color=colors.ink)


def _kept(axes: Axes, colors: Colors, middle: float, top: float, parts: list[str]):
  """A stack of what is kept of a step, one slab each."""
  for i, color in enumerate(parts):
    axes.add_patch(Rectangle((middle - 0.55, top - 0.13 * (i + 1)), 0.7, 0.1, fc=color, ec="none"))
