"""What crosses devices: tasks, rows of a contrastive loss, and sharded parameters."""

from pathlib import Path

from _style import Colors, drawing
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

DEVICES, LEFT, EACH = 4, 0.15, 1.5


def draw(path: Path, dark: bool):
  """Draws the three cases on four devices, one above the other."""
  with drawing(path, dark, 6.2, 6.7) as (axes, colors):
    _panel(axes, colors, 6.5, "Tasks of a meta-learner", 1.1)
    for device in range(DEVICES):
      x = _left(device)
      _parameters(axes, colors, x + 0.12, 5.95, range(DEVICES))
      for task in range(2):
        left = x + 0.12 + 0.62 * task
        axes.add_patch(Rectangle((left, 5.28), 0.54, 0.54, fc="none", ec=colors.orange, lw=1.6))
        axes.text(left + 0.27, 5.7, f"task {2 * device + task}", ha="center", va="center", color=colors.ink, size=9)
        loop = FancyArrowPatch(
          (left + 0.17, 5.5), (left + 0.37, 5.5), connectionstyle="arc3,rad=1.4", arrowstyle="-|>", mutation_scale=8
        )
        loop.set(color=colors.ink, lw=1.2)
        axes.add_patch(loop)
    _message(axes, colors, 4.95, "one all-reduce: losses and gradient", colors.green)

    _panel(axes, colors, 4.5, "Rows of a contrastive loss", 1.1)
    for device in range(DEVICES):
      x = _left(device) + 0.18
      axes.add_patch(Rectangle((x, 3.3), 0.14, 0.8, fc="none", ec=colors.blue, lw=1))
      axes.add_patch(Rectangle((x, 3.9 - 0.2 * device), 0.14, 0.2, fc=colors.blue, ec="none"))
      axes.add_patch(Rectangle((x + 0.24, 3.3), 0.8, 0.8, fc="none", ec=colors.faint, lw=1))
      axes.add_patch(Rectangle((x + 0.24, 3.9 - 0.2 * device), 0.8, 0.2, fc=colors.orange, ec="none"))
    _message(axes, colors, 2.95, "gather one tower; return its gradient to its rows", colors.green)

    _panel(axes, colors, 2.5, "Sharded parameters (fsdp)", 1.1)
    for device in range(DEVICES):
      x = _left(device)
      _parameters(axes, colors, x + 0.12, 1.88, [device])
      axes.text(x + 0.7, 1.68, "whole in use", ha="center", va="center", color=colors.faint, size=9)
      _parameters(axes, colors, x + 0.12, 1.35, range(DEVICES))
    _message(axes, colors, 0.95, "all-gather parameters, reduce-scatter the gradient", colors.green)

    for left, color, meaning in (
      (0.2, colors.blue, "parameters, or rows of a tower"),
      (3.1, colors.orange, "tasks, or logits: never sent"),
    ):
      axes.add_patch(Rectangle((left, 0.37), 0.22, 0.14, fc=color, ec="none"))
      axes.text(left + 0.3, 0.43, meaning, va="center", color=colors.faint)


def _left(device: int) -> float:
  return LEFT + EACH * device


def _panel(axes: Axes, colors: Colors, top: float, title: str, height: float):
  axes.text(LEFT, top, title, va="center", color=colors.ink, weight="bold")
  for device in range(DEVICES):
    box = (_left(device), top - 0.2 - height)
    axes.add_patch(FancyBboxPatch(box, EACH - 0.12, height, boxstyle="round,pad=0.01", fc=colors.fill, ec="none"))


def _parameters(axes: Axes, colors: Colors, left: float, bottom: float, held):
  """Four parts of the parameters in a row, those that are held filled."""
  for part in range(DEVICES):
    color = colors.blue if part in held else "none"
    axes.add_patch(Rectangle((left + 0.29 * part, bottom), 0.27, 0.14, fc=color, ec=colors.blue, lw=0.8))


def _message(axes: Axes, colors: Colors, y: float, words: str, color: str):
  """What is sent, under a line over all devices."""
  axes.plot([LEFT, _left(DEVICES) - 0.12], [y + 0.17, y + 0.17], color=color, lw=2.2, marker="o", ms=4)
  axes.text(_left(DEVICES / 2), y - 0.02, words, ha="center", va="center", color=color, size=9.5)
