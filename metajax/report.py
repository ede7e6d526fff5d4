"""What a run shows: its progress while it trains, and the pictures it leaves."""

import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from metajax.types import Array, Episode


@contextmanager
def progress(steps: int, rows: int, unit: str = "tasks", console: Console | None = None):
  """Gives a `log` for `fit` that draws a live bar on a terminal and prints plain lines elsewhere.

  It shows the step, how many rows (tasks) a second, every metric, and the time left.

  Args:
    steps: how many steps there will be.
    rows: tasks (or examples) in a step.
    unit: what a row is called.
    console: where to write; the standard output by default.
  """
  console = console or Console(highlight=False)
  if console.is_terminal:
    # The text comes last: where the terminal is narrow, what is cut off is its end.
    columns = (
      TimeRemainingColumn(),
      BarColumn(10),
      TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console) as bar:
      task = bar.add_task("", total=steps, text="compiling")
      yield _logger(steps, rows, unit, lambda step, text, left: bar.update(task, completed=step, text=text))
  else:
    write = lambda step, text, left: console.print(f"{text}  {left:.0f} s left", soft_wrap=True)
    yield _logger(steps, rows, unit, write)


def _logger(steps: int, rows: int, unit: str, write: Callable) -> Callable:
  began, unseen, first = time.perf_counter(), ("gradient_norm", "steps_per_second"), ("loss", "accuracy", "validation")

  def log(step, metrics):
    rate = rows * metrics["steps_per_second"]
    names = sorted(set(metrics) - set(unseen), key=lambda name: (first.index(name) if name in first else 3, name))
    numbers = "  ".join(f"{name} {_short(metrics[name])}" for name in names)
    left = (time.perf_counter() - began) * (steps - step) / step
    write(step, f"step {step}/{steps}  {rate:.0f} {unit}/s  {numbers}", left)

  return log


def _short(value: float) -> str:
  return f"{value:.3f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"


def episode_figure(episode: Episode, logits: Array, path: Path, title: str = "", queries: int = 8):
  """Draws one task: a row a way, with its support pictures, then queries of that way with their predictions.

  A query is framed in green where it is right, in red otherwise, under the name of the way it was taken for.

  Args:
    episode: of pictures `[n, h, w, c]` in [0, 1], without a leading `[tasks]`.
    logits: `[queries, ways]`.
    path: a PNG file, its folder made where it is missing.
    title: above the picture.
    queries: how many of each way at most.
  """
  support, query = (np.asarray(e.inputs) for e in episode)
  ways, truth = (np.asarray(e.labels).argmax(-1) for e in episode)
  guess = np.asarray(logits).argmax(-1)
  names = [chr(ord("A") + k) if k < 26 else str(k) for k in range(episode.query.labels.shape[-1])]
  rows = [(support[ways == k], query[truth == k][:queries], guess[truth == k][:queries]) for k in range(len(names))]
  shots, across = max(len(s) for s, _, _ in rows), max(len(q) for _, q, _ in rows)
  figure = _figure(0.5 + 0.8 * (shots + 0.5 + across), 0.6 + 0.95 * len(rows))
  grid = figure.subplots(len(rows), shots + 1 + across, squeeze=False, width_ratios=[1] * shots + [0.5] + [1] * across)
  for axes in grid.flat:
    axes.axis("off")
  for k, (examples, asked, guesses) in enumerate(rows):
    for axes, picture in zip(grid[k], examples, strict=False):
      _draw(axes, picture, f"{names[k]}", "black")
    for axes, picture, answer in zip(grid[k, shots + 1 :], asked, guesses, strict=False):
      _draw(axes, picture, names[answer], "tab:green" if answer == k else "tab:red")
  figure.suptitle(title, fontsize=9)
  _save(figure, path)


def curves_figure(curves: dict[str, tuple[Array, Array]], path: Path, *, points=None, x="", y="", title=""):
  """Draws named curves `{name: (x, y)}` in one figure, and `points` `(x, y)` as dots over them, into a PNG file."""
  figure = _figure(6.4, 4)
  axes = figure.subplots()
  for name, (across, up) in curves.items():
    axes.plot(np.asarray(across), np.asarray(up), label=name, color="black" if name == "truth" else None)
  if points is not None:
    axes.plot(*map(np.asarray, points), "o", color="tab:purple", label="support")
  axes.set(xlabel=x, ylabel=y, title=title)
  axes.legend(fontsize=8)
  _save(figure, path)


def _figure(width: float, height: float):
  # Drawn without pyplot: no global state, no display.
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout="constrained")


def _draw(axes, picture, name, colour):
  axes.axis("on")
  axes.set(xticks=[], yticks=[])
  axes.set_title(name, fontsize=8, color=colour, pad=2)
  if picture.shape[-1] == 1:
    axes.imshow(1 - picture[..., 0], cmap="gray", vmin=0, vmax=1)
  else:
    axes.imshow(picture.clip(0, 1))
  for spine in axes.spines.values():
    spine.set(color=colour, linewidth=2)


def _save(figure, path: Path):
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=110)
