"""The house: the floors, their packages, and what each package imports beside the ground floor."""

from pathlib import Path

from _style import Colors, drawing
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

# Floor: rows of (package, what it imports, width in inches).
FLOORS = {
  "commands": [[("experiments/", "all", 2.0), ("cli", "inference, experiment, data, ...", 3.09)]],
  "runs": [
    [("inference", "predictors, data, ...", 2.0), ("experiment", "train, evaluate, data, ...", 3.09)],
    [("compiled", "train, mesh", 5.15)],
    [
      ("train", "mesh", 0.85),
      ("evaluate", "mesh, losses", 1.46),
      ("checkpoint", "", 1.1),
      ("report", "mesh", 0.85),
      ("export", "", 0.65),
    ],
  ],
  "algorithms": [
    [("learners", "adapt, predictors, compose, losses, augment, mesh", 5.15)],
    [("adapt", "", 2.0), ("predictors", "compose, losses", 3.09)],
  ],
  "pieces": [
    [
      ("networks", "mesh", 0.97),
      ("data", "", 0.68),
      ("compose", "mesh", 0.88),
      ("losses", "mesh", 0.75),
      ("augment", "mesh", 0.81),
      ("pretexts", "augment", 0.76),
    ],
  ],
  "devices": [[("mesh", "", 5.15)]],
  "ground": [[("types, tree, checks, shards, paths, similarity, ...", "seen by all", 5.15)]],
}
LEFT, GAP, HEIGHT = 1.15, 0.06, 0.5


def draw(path: Path, dark: bool):
  """Draws the floors, the ground at the bottom."""
  rows = sum(map(len, FLOORS.values()))
  height = rows * (HEIGHT + GAP) + len(FLOORS) * 0.13 + 0.35
  with drawing(path, dark, 6.5, height) as (axes, colors):
    top = height - 0.05
    for floor, of_floor in FLOORS.items():
      bottom = top - len(of_floor) * (HEIGHT + GAP) - 0.06
      band = FancyBboxPatch(
        (0.08, bottom), 6.3, top - bottom, boxstyle="round,pad=0,rounding_size=0.06", fc=colors.fill, ec="none"
      )
      axes.add_patch(band)
      axes.text(0.17, (top + bottom) / 2, floor, va="center", color=colors.ink, weight="bold", size=9.5)
      for row, packages in enumerate(of_floor):
        _row(axes, colors, top - 0.06 - row * (HEIGHT + GAP), packages)
      top = bottom - 0.07
    for left, color, meaning in (
      (0.15, colors.blue, "names the device axis"),
      (2.3, colors.orange, "wraps flax, TensorFlow"),
      (4.5, colors.green, "is handed to the runs"),
    ):
      axes.plot([left, left + 0.2], [0.14, 0.14], color=color, lw=3, solid_capstyle="butt")
      axes.text(left + 0.28, 0.13, meaning, va="center", color=colors.faint, size=9.5)


def _row(axes: Axes, colors: Colors, top: float, packages: list[tuple[str, str, float]]):
  accents = {"mesh": colors.blue, "networks": colors.orange, "data": colors.orange, "learners": colors.green}
  left = LEFT
  for name, imports, width in packages:
    accent = accents.get(name, colors.faint)
    box = FancyBboxPatch(
      (left, top - HEIGHT),
      width,
      HEIGHT - 0.02,
      boxstyle="round,pad=0,rounding_size=0.05",
      fc="none",
      ec=accent,
      lw=1.4,
    )
    box.set_linewidth(2.2 if name in accents else 0.9)
    axes.add_patch(box)
    middle = top - (0.16 if imports else HEIGHT / 2)
    axes.text(left + width / 2, middle, name, ha="center", va="center", color=colors.ink, size=10.5)
    axes.text(left + width / 2, top - 0.36, imports, ha="center", va="center", color=colors.faint, size=9)
    left += width + GAP
