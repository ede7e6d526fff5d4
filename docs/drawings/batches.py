"""Batches: a step gives the numbers of its tasks, and a host reads its share of them."""

from pathlib import Path

from _style import Colors, drawing
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

STEPS, TASKS, CHOSEN = 6, 4, 3
SMALL, LARGE = 0.23, 0.62


def draw(path: Path, dark: bool):
  """Draws six batches of four tasks, the fourth of them enlarged, and its halves on two hosts."""
  with drawing(path, dark, 6.2, 3.95) as (axes, colors):
    for step in range(STEPS):
      left = 0.1 + step * (TASKS * SMALL + 0.1)
      chosen = step == CHOSEN
      middle = left + TASKS * SMALL / 2
      weight = "bold" if chosen else "normal"
      axes.text(middle, 3.6, f"step {step}", ha="center", color=colors.ink if chosen else colors.faint, weight=weight)
      for i in range(TASKS):
        color = (colors.blue, colors.orange)[i // 2] if chosen else colors.faint
        axes.add_patch(
          Rectangle((left + i * SMALL, 3.28), SMALL - 0.03, 0.22, fc=color if chosen else "none", ec=color)
        )
      if chosen:
        start = left
    for near, far in ((start, 1.7), (start + TASKS * SMALL, 1.7 + TASKS * LARGE)):
      axes.plot([near, far], [3.22, 2.72], color=colors.faint, lw=0.8, ls=":")

    axes.text(1.55, 2.42, "batch 3", ha="right", va="center", color=colors.ink, weight="bold")
    _tasks(axes, colors, 1.7, 2.15, range(CHOSEN * TASKS, (CHOSEN + 1) * TASKS))
    axes.text(4.35, 2.42, "task t: drawn from\n(seed, t) alone", va="center", color=colors.faint)

    arrow = {"arrowstyle": "-|>", "color": colors.ink, "lw": 1.3}
    for host, left in enumerate((0.9, 3.7)):
      first = CHOSEN * TASKS + host * TASKS // 2
      axes.annotate("", (left + LARGE, 1.5), (1.7 + LARGE + host * 2 * LARGE, 2.1), arrowprops=arrow)
      _tasks(axes, colors, left, 0.9, range(first, first + TASKS // 2))
      axes.text(left + LARGE, 0.6, f"host {host}", ha="center", color=colors.ink, weight="bold")
      call = f"batches(start=3, shard=({host}, 2))"
      axes.text(left + LARGE, 0.3, call, ha="center", color=colors.faint, family="monospace", size=9)


def _tasks(axes: Axes, colors: Colors, left: float, bottom: float, numbers: range):
  """Squares with the numbers of tasks, in the color of their host."""
  for i, number in enumerate(numbers):
    color = (colors.blue, colors.orange)[number % TASKS // 2]
    axes.add_patch(Rectangle((left + i * LARGE, bottom), LARGE - 0.06, 0.55, fc=colors.fill, ec=color, lw=2))
    axes.text(left + i * LARGE + LARGE / 2 - 0.03, bottom + 0.27, number, ha="center", va="center", color=colors.ink)
