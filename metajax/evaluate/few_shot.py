"""Scores of a trained learner on tasks it has not seen."""

import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import stdtrit

from metajax import checks
from metajax.evaluate.features import check_trained
from metajax.losses import accuracy, check_one_hot, squared_error
from metajax.mesh import map_tasks, own_share, replicate, shard_padded, to_host
from metajax.types import Batches, Learner, Params, State


class Score(NamedTuple):
  """A mean over tasks and how sure it is.

  Attributes:
    mean: accuracies in percent, 0 to 100; errors in their own unit.
    interval: half the width of the 95% interval of the mean over tasks; infinite of one task, which says nothing of
      others.
    tasks: the score of each task, float64 `[tasks]`.
  """

  mean: float
  interval: float
  tasks: np.ndarray

  def __str__(self):
    return f"{self:.2f}"

  def __format__(self, how: str) -> str:
    """Both numbers, each written as `how` has it: by default with two decimals."""
    mean, interval = (f"{x:{how or '.2f'}}" for x in self[:2])
    return f"{mean} (one score: no interval)" if math.isinf(self.interval) else f"{mean} ± {interval}"


def few_shot_accuracy(
  learner: Learner, params: Params, state: State, batches: Batches, tasks: int = 1000, *, at_once: int | None = None
) -> Score:
  """The accuracy in percent on the queries of `tasks` tasks, with its 95% interval over tasks.

  The tasks are the first ones of `batches`, so two learners given the same `batches` meet the same tasks; each is
  counted once, whatever the size of a batch and the number of devices. Each of several hosts reads and tests its share.

  Args:
    learner: its `predict` sees a task's support and the inputs of its queries.
    params: of the trained learner.
    state: of the trained learner.
    batches: `batches(start, shard)` of `Episode`s, e.g. `data.episodes(...)`.
    tasks: how many, at least 2.
    at_once: how many tasks run as one vectorised group.

  Returns:
    A `Score`: mean, interval and the accuracy of each task.

  Raises:
    TypeError: if what is given is no Learner or no `batches(start, shard)`.
    ValueError: if `tasks` is below 2, the batches end early, labels are not one-hot or do not fit the logits, or a task
      has no labelled query.
    FloatingPointError: if a prediction is not finite, naming the task, or a parameter or a value of the state is not.
  """

  return summarise(_scores(learner, params, state, batches, tasks, _percent_right, at_once, _check_classes))


def one_shot_runs(
  learner: Learner, params: Params, state: State, batches: Batches, *, at_once: int | None = None
) -> Score:
  """The error in percent of one-shot classification (Lake et al. 2015), with its 95% interval over runs.

  Published for Lake's fixed 20-way runs, by people 4.5, by Siamese networks 8.0 (Koch 2015), by prototypical networks
  13.7 (Lake et al. 2019).

  Args:
    learner, params, state, at_once: as for `few_shot_accuracy`.
    batches: one batch of all runs, `data.one_shot_runs(folder)` or `data.one_shot_tasks(source)`.

  Returns:
    A `Score`: the mean error, its interval, and the error of each run.

  Raises:
    TypeError, ValueError, FloatingPointError: as `few_shot_accuracy`, or if there is no batch.
  """
  checks.function("batches", batches, "batches(start, shard), an iterator of Episodes")
  whole = next(iter(batches()), None)
  if whole is None:
    raise ValueError("expected one batch of all runs, got none")
  runs = len(whole.query.labels)
  right = few_shot_accuracy(learner, params, state, batches, runs, at_once=at_once)
  return summarise(100 - right.tasks)


def few_shot_error(
  learner: Learner, params: Params, state: State, batches: Batches, tasks: int = 1000, *, at_once: int | None = None
) -> Score:
  """The mean squared error of a regression on the queries of `tasks` tasks, in the targets' unit squared.

  Arguments, tasks, interval and errors are as in `few_shot_accuracy`; the labels are regression targets `[n, outputs]`,
  which have to be finite.
  """
  return summarise(_scores(learner, params, state, batches, tasks, squared_error, at_once, _check_targets))


def _percent_right(logits, labels):
  return 100 * accuracy(logits, labels)


def _check_classes(episodes):
  check_one_hot(episodes.support.labels)
  check_one_hot(episodes.query.labels)
  empty = np.flatnonzero(~np.asarray(episodes.query.labels).any((1, 2)))
  if empty.size:
    raise ValueError(f"expected a labelled query in every task, got none in task {empty[0]} of a batch")


def _check_targets(episodes):
  for name, part in (("support", episodes.support), ("query", episodes.query)):
    checks.finite(f"{name} targets of a batch's tasks", part.labels)


@functools.lru_cache(maxsize=64)
def _scorer(predict, measure, at_once):
  """Compiled once for all evaluations of a learner."""

  def score(shared, episode):
    prediction = predict(*shared, episode.support, episode.query.inputs)
    # The largest of NaNs is the first way: without this, a broken learner scores like chance.
    return jnp.where(jnp.isfinite(prediction).all(), measure(prediction, episode.query.labels), jnp.nan)

  return jax.jit(map_tasks(score, at_once))


def _scores(learner, params, state, batches, tasks, measure, at_once, look=lambda episodes: None):
  """`measure(prediction, labels)` of each of the first `tasks` tasks, float64 `[tasks]`."""
  if isinstance(tasks, bool) or not isinstance(tasks, numbers.Integral) or tasks < 2:
    raise ValueError(f"expected at least 2 tasks, so that there is an interval, got {tasks!r}")
  checks.record("learner", learner, Learner)
  checks.function("the learner's predict", learner.predict, "(params, state, support, inputs) -> logits")
  checks.function("batches", batches, "batches(start, shard), an iterator of Episodes")
  run, shared = _scorer(learner.predict, measure, at_once), replicate((params, state))
  check_trained(*shared)
  scores, found = [], 0
  for episodes in own_share(batches):
    look(episodes)
    sharded, there = shard_padded(episodes)
    scores.append(to_host(run(shared, sharded))[there])
    found += len(scores[-1])
    if found >= tasks:
      scores = np.concatenate(scores)[:tasks].astype(np.float64)
      if not np.isfinite(scores).all():
        raise FloatingPointError(
          f"predictions were not finite, first in test task {np.flatnonzero(~np.isfinite(scores))[0]}"
        )
      return scores
  raise ValueError(f"expected batches of {tasks} tasks, got {found}")


def adaptation_curve(
  after: Callable[[int], Learner],
  params: Params,
  state: State,
  batches: Batches,
  steps: Sequence[int],
  tasks: int = 1000,
  *,
  at_once: int | None = None,
) -> list[Score]:
  """The accuracy on the same tasks after each of several numbers of adaptation steps.

  Args:
    after: the learner that takes that many steps at test time: `lambda n: maml(network, gradient_steps(sgd, n))`, where
      `adapt.unchanged` takes none.
    params, state, batches, tasks, at_once: as for `few_shot_accuracy`.
    steps: numbers of steps, such as `range(11)`.

  Raises:
    ValueError: if there is no number of steps, or one is below 0; as `few_shot_accuracy`.
    FloatingPointError: as `few_shot_accuracy`.
  """
  if not len(steps):
    raise ValueError("expected numbers of adaptation steps, got none")
  for number in steps:
    checks.count("a number of adaptation steps", number, least=0)
  return [few_shot_accuracy(after(n), params, state, batches, tasks, at_once=at_once) for n in steps]


def paired_difference(first: Score, second: Score) -> Score:
  """The mean over tasks of `first - second`, of two learners on the same tasks, with its 95% interval.

  What makes a task hard makes it hard for both, so this interval is narrower than those of the two means.

  Raises:
    ValueError: if they have different numbers of tasks.
  """
  if first.tasks.shape != second.tasks.shape:
    raise ValueError(f"expected scores of the same tasks, got {len(first.tasks)} and {len(second.tasks)} tasks")
  return summarise(first.tasks - second.tasks)


def summarise(scores: np.ndarray) -> Score:
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
  return float(stdtrit(freedom, 0.975))


def over_seeds(scores: Sequence[Score]) -> Score:
  """The mean of the means of networks that were trained from several seeds, with its 95% interval over the seeds.

  One score is its own.

  Raises:
    ValueError: if there is no score.
  """
  if not len(scores):
    raise ValueError("expected a score of one seed at least, got none")
  return scores[0] if len(scores) == 1 else summarise(np.array([score.mean for score in scores]))
