"""Progress of a run: a live bar on a terminal or in a notebook, plain lines elsewhere."""

import importlib.util
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from metajax.types import MetricLogger

_UNSEEN = ("grad_norm", "steps_per_second", "data_wait_fraction", "seconds", "rows_per_second")
PATIENCE = 20  # seconds without a line, after which one says how long it will take
_FIRST = ("loss", "accuracy", "validation")


@contextmanager
def progress(
  steps: int, rows: int, unit: str = "tasks", console: Console | None = None, *, start: int = 0
) -> Generator[MetricLogger]:
  """A context manager that yields a `log` for `fit`, which draws a live bar on a terminal or in a notebook that has
  ipywidgets, and prints plain lines elsewhere.

  It shows the step, the throughput, the metrics, the time left, and the fraction of time that the device waited for
  data if it is 10% or more ("data_wait_fraction", 0 to 1). `log` accepts any metrics at any step, e.g. only a
  validation score; the bar shows the latest value of each metric. Without metrics the bar moves, and a line is
  printed only if there was none for the first 20 seconds.

  Args:
    steps: total number of steps.
    rows: tasks (or examples) per step.
    unit: name of a row, in the plural.
    console: destination; standard output by default.
    start: step at which a resumed run continues.
  """
  console = console or Console(highlight=False)
  if _draws(console):
    # The text comes last, so that a narrow terminal cuts off its end.
    columns = (
      TimeRemainingColumn(),
      BarColumn(10),
      TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console, speed_estimate_period=600) as bar:
      task = bar.add_task("", total=steps, completed=start, text="compiling")
      latest = {}

      def draw(step, metrics):
        latest.update(metrics)
        bar.update(task, completed=step, text=_line(step, steps, rows, unit, latest))

      yield draw
  else:
    yield _printer(steps, rows, unit, start, lambda line: console.print(line, soft_wrap=True, markup=False))


def _draws(console: Console) -> bool:
  """Whether a bar can be drawn: a notebook without ipywidgets would warn at each update instead."""
  if console.is_jupyter:
    return importlib.util.find_spec("ipywidgets") is not None
  return console.is_terminal


def _printer(steps: int, rows: int, unit: str, start: int, write: Callable) -> Callable:
  began, said = time.perf_counter(), False

  def log(step, metrics):
    nonlocal said
    elapsed = time.perf_counter() - began
    if not metrics and (said or elapsed < PATIENCE):
      return
    said = True
    done = step - start  # earlier steps did not take any of this time
    left = f"{elapsed * (steps - step) / done:.0f} s left" if done > 0 else ""
    write(_line(step, steps, rows, unit, metrics, left))

  return log


def _line(step: int, steps: int, rows: int, unit: str, metrics: dict, left: str = "") -> str:
  names = sorted(set(metrics) - set(_UNSEEN), key=lambda name: (_FIRST.index(name) if name in _FIRST else 3, name))
  rate = f"{rows * metrics['steps_per_second']:.0f} {unit}/s" if "steps_per_second" in metrics else ""
  waiting = metrics.get("data_wait_fraction", 0)
  waits = f"waiting for data {waiting:.0%}" if waiting >= 0.1 else ""
  numbers = (f"{name} {_short(metrics[name])}" for name in names)
  return "  ".join(part for part in (f"step {step}/{steps}", rate, *numbers, left, waits) if part)


def _short(value: float) -> str:
  return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
