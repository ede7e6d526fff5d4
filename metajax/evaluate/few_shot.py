"""Scores of a trained learner on tasks it has not seen."""

import functools
import numbers
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metajax import checks
from metajax.evaluate.embed import check_trained
from metajax.evaluate.statistics import Score, mean_and_ci
from metajax.losses import accuracy, check_one_hot, squared_error
from metajax.mesh import host_batches, map_tasks, replicate, shard_padded, to_host
from metajax.types import Batches, Learner, Params, State


def few_shot_accuracy(
  learner: Learner,
  params: Params,
  state: State,
  batches: Batches,
  num_tasks: int = 1000,
  *,
  chunk_size: int | None = None,
) -> Score:
  """The accuracy in percent on the queries of `num_tasks` tasks, with its 95% interval over tasks.

  The tasks are the first ones of `batches`, so two learners given the same `batches` meet the same tasks; each is
  counted once, whatever the size of a batch and the number of devices. Each of several hosts reads and tests its share.

  Args:
    learner: its `predict` sees a task's support and the inputs of its queries.
    params: of the trained learner.
    state: of the trained learner.
    batches: `batches(start, shard)` of `Episode`s, e.g. `data.episodes(...)`.
    num_tasks: how many, at least 2.
    chunk_size: how many tasks run as one vectorized group.

  Returns:
    A `Score`: mean, interval and the accuracy of each task.

  Raises:
    TypeError: if what is given is no Learner or no `batches(start, shard)`.
    ValueError: if `num_tasks` is below 2, the batches end early, labels are not one-hot or do not fit the logits, or a
      task has no labeled query.
    FloatingPointError: if a prediction is not finite, naming the task, or a parameter or a value of the state is not.
  """

  return mean_and_ci(_scores(learner, params, state, batches, num_tasks, _percent_right, chunk_size, _check_classes))


def one_shot_runs(
  learner: Learner, params: Params, state: State, batches: Batches, *, chunk_size: int | None = None
) -> Score:
  """The error in percent of one-shot classification (Lake et al. 2015), with its 95% interval over runs.

  Published for Lake's fixed 20-way runs, by people 4.5, by Siamese networks 8.0 (Koch 2015), by prototypical networks
  13.7 (Lake et al. 2019).

  Args:
    learner, params, state, chunk_size: as for `few_shot_accuracy`.
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
  right = few_shot_accuracy(learner, params, state, batches, runs, chunk_size=chunk_size)
  return mean_and_ci(100 - right.tasks)


def few_shot_error(
  learner: Learner,
  params: Params,
  state: State,
  batches: Batches,
  num_tasks: int = 1000,
  *,
  chunk_size: int | None = None,
) -> Score:
  """The mean squared error of a regression on the queries of `num_tasks` tasks, in the targets' unit squared.

  Arguments, tasks, interval and errors are as in `few_shot_accuracy`; the labels are regression targets `[n, outputs]`,
  which have to be finite.
  """
  return mean_and_ci(_scores(learner, params, state, batches, num_tasks, squared_error, chunk_size, _check_targets))


def _percent_right(logits, labels):
  return 100 * accuracy(logits, labels)


def _check_classes(episodes):
  check_one_hot(episodes.support.labels)
  check_one_hot(episodes.query.labels)
  empty = np.flatnonzero(~np.asarray(episodes.query.labels).any((1, 2)))
  if empty.size:
    raise ValueError(f"expected a labeled query in every task, got none in task {empty[0]} of a batch")


def _check_targets(episodes):
  for name, part in (("support", episodes.support), ("query", episodes.query)):
    checks.finite(f"{name} targets of a batch's tasks", part.labels)


@functools.lru_cache(maxsize=64)
def _scorer(predict, measure, chunk_size):
  """Compiled once for all evaluations of a learner."""

  def score(shared, episode):
    prediction = predict(*shared, episode.support, episode.query.inputs)
    # The largest of NaNs is the first way: without this, a broken learner scores like chance.
    return jnp.where(jnp.isfinite(prediction).all(), measure(prediction, episode.query.labels), jnp.nan)

  return jax.jit(map_tasks(score, chunk_size))


def _scores(learner, params, state, batches, num_tasks, measure, chunk_size, look=lambda episodes: None):
  """`measure(prediction, labels)` of each of the first `num_tasks` tasks, float64 `[num_tasks]`."""
  if isinstance(num_tasks, bool) or not isinstance(num_tasks, numbers.Integral) or num_tasks < 2:
    raise ValueError(f"expected at least 2 tasks, so that there is an interval, got {num_tasks!r}")
  checks.record("learner", learner, Learner)
  checks.function("the learner's predict", learner.predict, "(params, state, support, inputs) -> logits")
  checks.function("batches", batches, "batches(start, shard), an iterator of Episodes")
  run, shared = _scorer(learner.predict, measure, chunk_size), replicate((params, state))
  check_trained(*shared)
  scores, found = [], 0
  for episodes in host_batches(batches):
    look(episodes)
    sharded, there = shard_padded(episodes)
    scores.append(to_host(run(shared, sharded))[there])
    found += len(scores[-1])
    if found >= num_tasks:
      scores = np.concatenate(scores)[:num_tasks].astype(np.float64)
      if not np.isfinite(scores).all():
        raise FloatingPointError(
          f"predictions were not finite, first in test task {np.flatnonzero(~np.isfinite(scores))[0]}"
        )
      return scores
  raise ValueError(f"expected batches of {num_tasks} tasks, got {found}")


def adaptation_curve(
  after: Callable[[int], Learner],
  params: Params,
  state: State,
  batches: Batches,
  steps: Sequence[int],
  num_tasks: int = 1000,
  *,
  chunk_size: int | None = None,
) -> list[Score]:
  """The accuracy on the same tasks after each of several numbers of adaptation steps.

  Args:
    after: the learner that takes that many steps at test time: `lambda n: maml(network, gradient_steps(sgd, n))`, where
      `adapt.identity` takes none.
    params, state, batches, num_tasks, chunk_size: as for `few_shot_accuracy`.
    steps: numbers of steps, such as `range(11)`.

  Raises:
    ValueError: if there is no number of steps, or one is below 0; as `few_shot_accuracy`.
    FloatingPointError: as `few_shot_accuracy`.
  """
  if not len(steps):
    raise ValueError("expected numbers of adaptation steps, got none")
  for number in steps:
    checks.count("a number of adaptation steps", number, least=0)
  return [few_shot_accuracy(after(n), params, state, batches, num_tasks, chunk_size=chunk_size) for n in steps]
