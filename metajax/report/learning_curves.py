"""Learning curves: a small panel for each metric of a run."""

from pathlib import Path

import numpy as np

from metajax.report.drawing import BLUE, FAINT, GRAY, GREEN, INK, PURPLE, VERMILION, clean, drawing

_FIRST = ("loss", "accuracy", "validation")
_COLORS = {"loss": BLUE, "validation": VERMILION, "grad_norm": PURPLE}
_NOT_DRAWN = ("step", "time", "seconds", "steps_per_second", "data_wait_fraction", "rows_per_second")
_NOT_DRAWN += ("goodput", "mfu", "device_memory_gib")
_MANY = 60  # number of points beyond which a smoothed line is drawn over them


def learning_curves_figure(metrics: list[dict], path: Path, *, chosen_step: int | None = None):
  """Draws a panel for each metric over the steps: loss, metrics of the learner, validation, gradient norm.

  More than 60 points are drawn faintly behind a smoothed curve. A positive metric that spans more than a decade has a
  logarithmic axis. Values that are not finite are omitted.

  Args:
    metrics: rows of `metrics.jsonl`, from `read_metrics`; a row need not have every metric.
    path: PNG file; missing folders are created.
    chosen_step: step whose parameters were kept, marked in every panel.

  Raises:
    ValueError: if no row has a finite metric.
  """
  curves = _curves(metrics)
  if not curves:
    raise ValueError(f"expected rows with metrics, got {len(metrics)} rows without a finite one")
  last = max([steps[-1] for steps, _ in curves.values()] + [chosen_step or 1])
  columns = min(len(curves), 2 if len(curves) in (2, 4) else 3)
  rows = -(-len(curves) // columns)
  with drawing(path, 10 if columns > 1 else 6, 0.2 + 2.5 * rows if columns == 3 else 0.2 + 2.8 * rows) as figure:
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, (steps, values)) in zip(panels, curves.items(), strict=False):
      _panel(axes, name, steps, values, chosen_step)
      _steps_axis(axes, last)
    for axes in panels[len(curves) :]:
      axes.axis("off")
    figure.get_layout_engine().set(wspace=0.05, hspace=0.06)


def _curves(metrics: list[dict]) -> dict:
  """`{name: (steps, values)}` of the finite values, in the order of the panels."""
  names = dict.fromkeys(name for row in metrics for name in row if name not in _NOT_DRAWN)

  def rank(name):
    return (_FIRST.index(name) if name in _FIRST else 9 if name == "grad_norm" else 3, name)

  curves = {}
  for name in sorted(names, key=rank):
    pairs = [(row["step"], row[name]) for row in metrics if isinstance(row.get(name), int | float)]
    points = np.array([pair for pair in pairs if np.isfinite(pair[1])], float)
    if len(points):
      curves[name] = points[:, 0], points[:, 1]
  return curves


def _panel(axes, name, steps, values, chosen):
  color = _COLORS.get(name, GREEN)
  smooth = _smoothed(values)
  if len(values) > _MANY:
    axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.8)
    axes.plot(steps, smooth, color=color)
  else:
    axes.plot(steps, values, color=color, marker="o", markersize=3.5 if len(values) > 12 else 5, markeredgewidth=0)
  if values.min() > 0 and values.max() > 10 * values.min():
    _logarithmic(axes, decades=np.log10(values.max() / values.min()))
  if chosen is not None:
    axes.axvline(chosen, color=GRAY, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
  at = np.flatnonzero(steps == chosen)
  if name == "validation" and len(at):
    axes.plot(steps[at[-1]], values[at[-1]], "o", color=color, markersize=8, markeredgecolor="white", zorder=5)
    said = f"{_brief(values[at[-1]])} at the chosen step {chosen:,}"
  else:
    said = _brief(smooth[-1])
  axes.set_title(clean(name).replace("_", " "), color=INK, fontweight="bold")
  axes.set_title(said, loc="right", color=color, fontsize=9)
  axes.tick_params(length=0)
  axes.spines["left"].set_color(FAINT)


def _smoothed(values: np.ndarray) -> np.ndarray:
  """A moving average over a window of 1/25 of the points, truncated at the ends."""
  if len(values) <= _MANY:
    return values
  window = np.ones(2 * (len(values) // 50) + 1)
  return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _logarithmic(axes, decades):
  from matplotlib.ticker import LogLocator

  axes.set_yscale("log")
  axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
  axes.yaxis.set_minor_formatter("")
  axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
  axes.tick_params(which="minor", length=0)


def _steps_axis(axes, last):
  from matplotlib.ticker import MaxNLocator

  axes.set_xlabel("step")
  axes.set_xlim(-0.02 * last, 1.02 * last)
  axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=(1, 2, 5, 10)))
  axes.xaxis.set_major_formatter(lambda step, _: _thousands(step))


def _thousands(step: float) -> str:
  return f"{step / 1e6:g}M" if abs(step) >= 1e6 else f"{step / 1e3:g}k" if abs(step) >= 1e3 else f"{step:g}"


def _brief(value: float) -> str:
  return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"
