"""Scores: means over tasks, their 95% intervals, and differences of two."""

import math
import numbers
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metajax import checks


class Score(NamedTuple):
  """A mean over tasks and its 95% confidence interval.

  Attributes:
    mean: mean over tasks; accuracies in percent, 0 to 100, errors in the unit of the error.
    ci95: half the width of the mean's 95% interval over tasks; infinite for a single task, whose spread is unknown.
    tasks: score of each task, float64 `[tasks]`.
  """

  mean: float
  ci95: float
  tasks: np.ndarray

  def __str__(self):
    return f"{self:.2f}"

  def __repr__(self) -> str:
    """Mean and interval, without the scores of the tasks."""
    if not all(isinstance(x, numbers.Real) for x in self[:2]):  # e.g. in a `jax.tree.map`
      return f"Score(mean={self.mean!r}, ci95={self.ci95!r}, ...)"
    tasks = f", {checks.counted(np.size(self.tasks), 'task')}" if isinstance(self.tasks, np.ndarray) else ""
    return f"Score({self}{tasks})"

  def __format__(self, how: str) -> str:
    """Mean and interval, each in the format `how`: two decimals by default."""
    mean, ci95 = (f"{x:{how or '.2f'}}" for x in self[:2])
    return f"{mean} (one score: no interval)" if math.isinf(self.ci95) else f"{mean} ± {ci95}"


def paired_difference(first: Score, second: Score) -> Score:
  """The mean of `first - second` over tasks, for two learners on the same tasks, with its 95% interval.

  A hard task is hard for both learners, so this interval is narrower than those of the two means.

  Args:
    first, second: `Score`s with the same tasks in the same order.

  Returns:
    A `Score` of the differences.

  Raises:
    ValueError: if the numbers of tasks differ.

  Example:
    >>> from metajax.evaluate import mean_and_ci, paired_difference
    >>> first, second = mean_and_ci([61.0, 72.0, 83.0]), mean_and_ci([60.0, 70.0, 82.0])
    >>> print(paired_difference(first, second))
    1.33 ± 1.43
  """
  if first.tasks.shape != second.tasks.shape:
    raise ValueError(f"expected scores of the same tasks, got {len(first.tasks)} and {len(second.tasks)} tasks")
  return mean_and_ci(first.tasks - second.tasks)


def mean_and_ci(scores: np.ndarray) -> Score:
  """The mean of scores `[tasks]`, with the half-width `t s / sqrt(tasks)` of its 95% interval.

  Student's `t` has `tasks - 1` degrees of freedom: 1.96 for many tasks, 2.26 for ten. With one score the half-width is
  infinite.

  Args:
    scores: score of each task, `[tasks]`.

  Returns:
    A `Score`.

  Raises:
    ValueError: if `scores` is empty or not one-dimensional.
    FloatingPointError: if a score is not finite; the message names its row.

  Example:
    >>> from metajax.evaluate import mean_and_ci
    >>> score = mean_and_ci([60.0, 70.0, 80.0, 90.0])
    >>> print(f"{score:.1f}")
    75.0 ± 20.5
  """
  scores = checks.to_numpy("scores", scores, ..., dtype=np.float64)
  if scores.ndim != 1 or not scores.size:
    raise ValueError(f"expected at least one score, [tasks], got {list(scores.shape)}")
  checks.finite("scores", scores, error=FloatingPointError)
  if len(scores) == 1:
    return Score(float(scores[0]), math.inf, scores)
  half = student_t(len(scores) - 1) * scores.std(ddof=1) / np.sqrt(len(scores))
  return Score(float(scores.mean()), float(half), scores)


def student_t(freedom: int) -> float:
  """The half-width of a 95% interval in standard errors, by Student's `t` with `freedom` degrees of freedom."""
  from scipy.special import stdtrit  # imported here: it takes a third of a second, which `--help` need not pay

  return float(stdtrit(freedom, 0.975))


def mean_over_seeds(scores: Sequence[Score]) -> Score:
  """The mean over networks trained from several seeds, with its 95% interval over seeds.

  Args:
    scores: `Score` of each seed.

  Returns:
    A `Score` of the means; a single score is returned unchanged, with its interval over tasks.

  Raises:
    ValueError: if `scores` is empty.
  """
  if not len(scores):
    raise ValueError("expected the score of at least one seed, got none")
  return scores[0] if len(scores) == 1 else mean_and_ci(np.array([score.mean for score in scores]))
