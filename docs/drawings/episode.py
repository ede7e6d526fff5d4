"""An episode: a support set of three ways and two shots, and queries of the same classes."""

from pathlib import Path

from _style import drawing
from matplotlib.patches import FancyBboxPatch

WAYS, SHOTS, QUERIES = 3, 2, 3
SHAPES = ("o", "^", "s")


def draw(path: Path, dark: bool):
  """Draws the episode."""
  with drawing(path, dark, 7, 3.2) as (axes, colors):
    accents = (colors.blue, colors.orange, colors.green)
    for left, number, title in ((0.2, SHOTS, "support"), (3.3, QUERIES, "query")):
      width = 0.75 * number + 0.5
      axes.add_patch(FancyBboxPatch((left, 0.5), width, 2.1, boxstyle="round,pad=0.05", fc=colors.fill, ec="none"))
      axes.text(left + width / 2, 2.8, title, ha="center", color=colors.ink, weight="bold")
      for way in range(WAYS):
        for i in range(number):
          color = accents[way] if title == "support" else colors.ink
          axes.plot(left + 0.6 + 0.75 * i, 2.25 - 0.7 * way, SHAPES[way], ms=17, mfc="none", mec=color, mew=2.2)
    axes.text(1.2, 0.15, "ways x shots, labeled", ha="center", color=colors.faint)
    axes.text(4.65, 0.15, "to classify: the labels make the loss", ha="center", color=colors.faint)
    arrow = {"arrowstyle": "-|>", "color": colors.ink, "lw": 1.5}
    axes.annotate("", (3.2, 1.55), (2.3, 1.55), arrowprops=arrow)
    axes.text(2.75, 1.7, "adapt", ha="center", color=colors.ink)
    axes.annotate("", (6.9, 1.55), (6.1, 1.55), arrowprops=arrow)
    axes.text(6.5, 1.7, "loss", ha="center", color=colors.ink)
