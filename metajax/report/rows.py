"""Rows of metrics, `{"step": 100, "time": <seconds since 1970>, "loss": 0.25, ...}`, and loggers that make them."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from metajax import checks
from metajax.mesh import is_primary_host
from metajax.types import MetricLogger

RESERVED = ("step", "time")
WriteRow = Callable[[dict[str, Any]], None]


def log_to(*loggers: MetricLogger) -> MetricLogger:
  """Joins loggers into one, which calls each in order.

  Args:
    loggers: functions `(step, metrics)`, e.g. those that `jsonl_log` and `csv_log` yield, or a custom one.

  Returns:
    A logger for `fit`.

  Raises:
    TypeError: if one is not a function, or is a context manager that is not entered.

  Example:
    >>> from metajax.report import log_to
    >>> first, second = [], []
    >>> log_to(lambda step, metrics: first.append(step), lambda step, metrics: second.append(metrics))(7, {"loss": 0.5})
    >>> first, second
    ([7], [{'loss': 0.5}])
  """
  for one in loggers:
    checks.logger("a logger", one)

  def log(step: int, metrics: Mapping[str, float]):
    for one in loggers:
      one(step, metrics)

  return log


@contextmanager
def on_primary(opened: Callable[[], AbstractContextManager[WriteRow]]) -> Generator[MetricLogger]:
  """Yields the logger of rows that are written by what `opened()` yields; on hosts but the primary it does nothing."""
  if not is_primary_host():
    yield lambda step, metrics: None
    return
  with opened() as write:
    yield lambda step, metrics: write(row_of(step, metrics))


def row_of(step: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
  """The row of a step, at this time.

  Raises:
    ValueError: if a metric is called "step" or "time".
  """
  if reserved := set(RESERVED) & set(metrics):
    raise ValueError(f"expected no metric called {reserved.pop()!r}: the name is reserved")
  return {"step": int(step), "time": time.time(), **{name: float(value) for name, value in metrics.items()}}
