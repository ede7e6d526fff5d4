"""Scores: means over tasks, their 95% intervals, and differences of two."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metajax import checks


class Score(NamedTuple):
  """A mean over tasks and how sure it is.

  Attributes:
    mean: accuracies in percent, 0 to 100; errors in their own unit.
    ci95: half the width of the 95% interval of the mean over tasks; infinite of one task, which says nothing of
      others.
    tasks: the score of each task, float64 `[tasks]`.
  """

  mean: float
  ci95: float
  tasks: np.ndarray

  def __str__(self):
    return f"{self:.2f}"

  def __format__(self, how: str) -> str:
    """Both numbers, each written as `how` has it: by default with two decimals."""
    mean, ci95 = (f"{x:{how or '.2f'}}" for x in self[:2])
    return f"{mean} (one score: no interval)" if math.isinf(self.ci95) else f"{mean} ± {ci95}"


def paired_difference(first: Score, second: Score) -> Score:
  """The mean over tasks of `first - second`, of two learners on the same tasks, with its 95% interval.

  What makes a task hard makes it hard for both, so this interval is narrower than those of the two means.

  Raises:
    ValueError: if they have different numbers of tasks.
  """
  if first.tasks.shape != second.tasks.shape:
    raise ValueError(f"expected scores of the same tasks, got {len(first.tasks)} and {len(second.tasks)} tasks")
  return mean_and_ci(first.tasks - second.tasks)


def mean_and_ci(scores: np.ndarray) -> Score:
  """The mean of scores `[tasks]`, with the half-width `t s / sqrt(tasks)` of its 95% interval.

  Student's `t` has `tasks - 1` degrees of freedom: 1.96 for many tasks, 2.26 for ten. Of one score it is infinite.

  Raises:
    ValueError: if there is no score.
    FloatingPointError: if a score is not finite, naming its row.
  """
  scores = checks.to_numpy("scores", scores, ..., dtype=np.float64)
  if scores.ndim != 1 or not scores.size:
    raise ValueError(f"expected scores [tasks], one at least, got {list(scores.shape)}")
  checks.finite("scores", scores, error=FloatingPointError)
  if len(scores) == 1:
    return Score(float(scores[0]), math.inf, scores)
  half = student_t(len(scores) - 1) * scores.std(ddof=1) / np.sqrt(len(scores))
  return Score(float(scores.mean()), float(half), scores)


def student_t(freedom: int) -> float:
  """The half-width of a 95% interval in standard errors, by Student's `t` with so many degrees of freedom."""
  from scipy.special import stdtrit  # a third of a second, which `--help` does not need

  return float(stdtrit(freedom, 0.975))


def mean_over_seeds(scores: Sequence[Score]) -> Score:
  """The mean of the means of networks that were trained from several seeds, with its 95% interval over the seeds.

  One score is its own.

  Raises:
    ValueError: if there is no score.
  """
  if not len(scores):
    raise ValueError("expected a score of one seed at least, got none")
  return scores[0] if len(scores) == 1 else mean_and_ci(np.array([score.mean for score in scores]))
