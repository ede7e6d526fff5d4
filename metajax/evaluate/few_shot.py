"""Scores of a trained learner on held-out few-shot tasks."""

import contextlib
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
from metajax.mesh import host_batches, map_tasks, over_cores, replicate, shard_padded, to_host
from metajax.pixels import images_to_float
from metajax.types import Batches, Learner, Padded, Params, State


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

  The tasks are the first ones of `batches`, so two learners given the same `batches` see the same tasks. Each task
  counts once, whatever the batch size and the number of devices. Each host reads and evaluates its share.

  Args:
    learner: a `Learner`; its `predict` sees a task's support set and the inputs of its queries.
    params: parameters of the trained learner.
    state: state of the trained learner.
    batches: `batches(start, shard)` of `Episode`s, e.g. `data.episodes(...)` or `data.variable_episodes(...)`, whose
      padded queries do not count.
    num_tasks: number of tasks, at least 2.
    chunk_size: number of tasks that run as one vectorized group.

  Returns:
    A `Score`: mean, interval and the accuracy of each task.

  Raises:
    TypeError: if `learner` is not a Learner or `batches` is not a function.
    ValueError: if `num_tasks` is below 2, the batches end early, labels are not one-hot or do not fit the logits, or a
      task has no labeled query.
    FloatingPointError: if a prediction is not finite (the message names the task), or a parameter or the state is not.

  Example:
    >>> import numpy as np
    >>> from metajax import data, evaluate, types
    >>> labels = np.arange(12) // 4
    >>> source = data.from_arrays(np.uint8(90 * labels).reshape(12, 1, 1, 1), labels)
    >>> batches = data.episodes(source, ways=3, shots=1, queries=2, meta_batch_size=2)
    >>> nearest = lambda params, state, support, x: -((x[:, None] - support.inputs) ** 2).sum((2, 3, 4))
    >>> print(evaluate.few_shot_accuracy(types.Learner(None, None, None, nearest), {}, {}, batches, 4))
    100.00 ± 0.00
  """
  return mean_and_ci(_scores(learner, params, state, batches, num_tasks, _percent_right, chunk_size, _check_classes))


def one_shot_error(
  learner: Learner, params: Params, state: State, batches: Batches, *, chunk_size: int | None = None
) -> Score:
  """The error in percent of one-shot classification (Lake et al. 2015), with its 95% interval over runs.

  Published errors on Lake's fixed 20-way runs: people 4.5, Siamese networks 8.0 (Koch 2015), prototypical networks
  13.7 (Lake et al. 2019).

  Args:
    learner, params, state, chunk_size: as for `few_shot_accuracy`.
    batches: one batch of all runs, `data.one_shot_runs(folder)` or `data.one_shot_tasks(source)`.

  Returns:
    A `Score`: the mean error, its interval, and the error of each run.

  Raises:
    TypeError, ValueError, FloatingPointError: as for `few_shot_accuracy`, or if no batch is given.
  """
  checks.function("batches", batches, "batches(start, shard), an iterator of Episodes")
  whole = next(iter(batches()), None)
  if whole is None:
    raise ValueError("expected one batch of all runs, got none")
  runs = len(whole.query.labels)
  right = few_shot_accuracy(learner, params, state, batches, runs, chunk_size=chunk_size)
  return mean_and_ci(100 - right.tasks)


def few_shot_mse(
  learner: Learner,
  params: Params,
  state: State,
  batches: Batches,
  num_tasks: int = 1000,
  *,
  chunk_size: int | None = None,
) -> Score:
  """The mean squared error of a regression on the queries of `num_tasks` tasks, in the targets' unit squared.

  Arguments, tasks, interval and exceptions are those of `few_shot_accuracy`; the labels are regression targets
  `[n, outputs]` and must be finite.

  Returns:
    A `Score`: mean, interval and the error of each task.
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
  """The jitted scores of a batch of tasks, cached so that all evaluations of a learner compile it once."""

  def score(shared, episode):
    episode = images_to_float(episode)
    prediction = predict(*shared, episode.support, episode.query.inputs)
    # The argmax of NaNs is the first way: without this check, a broken learner would score at chance.
    return jnp.where(_finite(prediction, episode.query.inputs), measure(prediction, episode.query.labels), jnp.nan)

  return jax.jit(map_tasks(score, chunk_size))


def _finite(prediction, queries):
  """Whether all predictions are finite, but for those of padded queries, which mean nothing."""
  finite = jnp.isfinite(prediction)
  if isinstance(queries, Padded):
    finite = finite | ~queries.mask.reshape(-1, *[1] * (finite.ndim - 1))
  return finite.all()


def _scores(learner, params, state, batches, num_tasks, measure, chunk_size, look=lambda episodes: None):
  """`measure(prediction, labels)` for each of the first `num_tasks` tasks, float64 `[num_tasks]`."""
  if isinstance(num_tasks, bool) or not isinstance(num_tasks, numbers.Integral) or num_tasks < 2:
    raise ValueError(f"expected at least 2 tasks, as an interval requires, got {num_tasks!r}")
  checks.record("learner", learner, Learner)
  checks.function("the learner's predict", learner.predict, "(params, state, support, inputs) -> logits")
  checks.function("batches", batches, "batches(start, shard), an iterator of Episodes")
  check_trained(*replicate((params, state)))
  scores = _scores_of_tasks(_scorer(learner.predict, measure, chunk_size), params, state, batches, num_tasks, look)
  if not np.isfinite(scores).all():
    raise FloatingPointError(
      f"predictions were not finite, first in test task {np.flatnonzero(~np.isfinite(scores))[0]}"
    )
  return scores


def _scores_of_tasks(run, params, state, batches, num_tasks, look):
  scores, found, shared = [], 0, None
  with contextlib.ExitStack() as devices:
    for episodes in host_batches(batches):
      look(episodes)
      if shared is None:
        devices.enter_context(over_cores(episodes))
        shared = replicate((params, state))
      sharded, there = shard_padded(episodes)
      scores.append(to_host(run(shared, sharded))[there])
      found += len(scores[-1])
      if found >= num_tasks:
        return np.concatenate(scores)[:num_tasks].astype(np.float64)
  raise ValueError(f"expected {num_tasks} tasks, but the batches ended after {found}")


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
    after: `after(n)`, the learner that takes `n` steps at test time, e.g. `lambda n: maml(network, gradient_steps(sgd,
      n))`; `adapt.identity` takes none.
    params, state, batches, num_tasks, chunk_size: as for `few_shot_accuracy`.
    steps: numbers of steps, e.g. `range(11)`.

  Returns:
    A `Score` for each number of steps.

  Raises:
    ValueError: if `steps` is empty or holds a negative number; otherwise as for `few_shot_accuracy`.
    FloatingPointError: as for `few_shot_accuracy`.
  """
  if not len(steps):
    raise ValueError("expected numbers of adaptation steps, got none")
  for number in steps:
    checks.count("a number of adaptation steps", number, least=0)
  return [few_shot_accuracy(after(n), params, state, batches, num_tasks, chunk_size=chunk_size) for n in steps]
