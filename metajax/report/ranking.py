"""Rankings: bars with intervals, best first."""

from collections.abc import Sequence
from pathlib import Path

from metajax.report.drawing import BLUE, FAINT, GRAY, INK, clean, drawing, shorten

ROW, WIDE = 0.24, 4.6  # inches


def ranking_figure(
  panels: dict[str, dict[str, tuple[float, float]]], path: Path, *, baselines: Sequence[str] = (), x: str = ""
):
  """Draws a panel for each comparison: a bar for each name, highest on top, with its value and interval.

  Args:
    panels: `{title: {name: (value, half-width of the interval)}}`, at least one name in each; two panels per row.
    path: PNG file; missing folders are created.
    baselines: names of baselines, drawn in gray.
    x: label of the x-axis, the measure.

  Raises:
    ValueError: if `panels` or a panel is empty.
  """
  if not panels or not all(panels.values()):
    raise ValueError(f"expected panels with at least one value each, got {list(panels)}")
  columns = min(2, len(panels))
  rows = -(-len(panels) // columns)
  tall = max(map(len, panels.values())) * ROW + 0.7
  with drawing(path, WIDE * columns, tall * rows) as figure:
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (title, values) in zip(grid, panels.items(), strict=False):
      _panel(axes, title, values, baselines, x)
    for axes in list(grid)[len(panels) :]:
      axes.axis("off")


def _panel(axes, title, values, baselines, x):
  ordered = sorted(values.items(), key=lambda item: item[1][0])
  names = [name for name, _ in ordered]
  heights, intervals = zip(*(value for _, value in ordered), strict=True)
  colors = [FAINT if name in baselines else BLUE for name in names]
  axes.barh(range(len(names)), heights, xerr=intervals, color=colors, height=0.7, error_kw={"ecolor": GRAY, "lw": 1})
  axes.set_yticks(range(len(names)), [shorten(name, 34) for name in names], fontsize=8, color=INK)
  axes.tick_params(axis="y", length=0)
  axes.grid(False, axis="y")
  for place, (value, interval) in enumerate(zip(heights, intervals, strict=True)):
    axes.text(value + interval, place, f" {value:.1f}", va="center", fontsize=7, color=INK)
  axes.set_xlim(0, 1.12 * max(h + i for h, i in zip(heights, intervals, strict=True)))
  axes.set(title=clean(title), xlabel=x)
