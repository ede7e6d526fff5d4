"""What learners trained on episodes share: from one task's logits to a Learner's loss over a batch of tasks."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from metajax.learners._checks import check_embedding, check_episodes, check_padding
from metajax.losses import accuracy, cross_entropy
from metajax.mesh import mean_over_tasks
from metajax.types import (
  BatchLoss,
  Episode,
  Examples,
  Inputs,
  Key,
  LossOfOutputs,
  Metrics,
  Network,
  Params,
  PredictFn,
  Scalar,
  State,
)

# (params, state, (episode, key)) -> (loss, ((state, metrics), weight))
TaskLoss = Callable[[Params, State, tuple[Episode, Key]], tuple[Scalar, tuple[tuple[State, Metrics], Scalar | float]]]


class Answer(Protocol):
  """`(params, state, support, queries, key=None) -> (outputs of the queries, state, metrics)` of one task."""

  def __call__(
    self, params: Params, state: State, support: Examples, queries: Inputs, key: Key | None = None, /
  ) -> tuple[Any, State, Metrics]: ...


def episodic_loss(
  answer: Answer, loss: LossOfOutputs = cross_entropy, chunk_size: int | None = None, classifies: bool | None = None
) -> BatchLoss:
  """A Learner's `loss`: the mean over tasks of the loss of the query's outputs.

  Args:
    answer: the outputs of one task's queries.
    loss: `(outputs, labels) -> scalar`.
    chunk_size: how many tasks run as one vectorized group.
    classifies: whether labels are one-hot; as the loss is cross-entropy, by default. A task whose query labels are all
      zero then is padding and weighs nothing, and the metrics gain the accuracy.
  """
  one_hot = loss is cross_entropy if classifies is None else classifies

  def task_loss(params, state, task):
    (support, query), key = task
    outputs, state, metrics = answer(params, state, support, query.inputs, key)
    return of_task(loss(outputs, query.labels), outputs, query, state, metrics, one_hot)

  return mean_over_episodes(task_loss, chunk_size)


def of_task(
  loss: Scalar, outputs: Any, query: Examples, state: State, metrics: Metrics, classifies: bool
) -> tuple[Scalar, tuple[tuple[State, Metrics], Scalar | float]]:
  """What a `TaskLoss` gives, of a task's loss and outputs: with the accuracy among the metrics, where it classifies."""
  if classifies:
    metrics = {"accuracy": accuracy(outputs, query.labels), **metrics}
  return loss, ((state, metrics), weight_of(query, classifies))


def mean_over_episodes(task_loss: TaskLoss, chunk_size: int | None = None) -> BatchLoss:
  """The weighted mean over a batch's tasks, of which each has a key of its own."""

  def batch_loss(params, state, episodes, key):
    keys = jax.random.split(key, jax.tree.leaves(episodes)[0].shape[0])
    return mean_over_tasks(task_loss, chunk_size)(params, state, (episodes, keys))

  return batch_loss


def predict_of(answer: Answer) -> PredictFn:
  """A Learner's `predict`: the outputs alone."""

  def predict(params, state, support, inputs):
    return answer(params, state, support, inputs)[0]

  return predict


def weight_of(query: Examples, classifies: bool) -> Scalar | float:
  """1, or 0 for a task that is padding: one whose query has no label."""
  return jnp.any(query.labels != 0) if classifies else 1.0


def init_embedding(network: Network, key: Key, episodes: Episode) -> tuple[Params, State]:
  """The params and state of a network that embeds the inputs of episodes.

  Raises:
    ValueError: if labels are not one-hot, rows are padded beside batch statistics, or outputs are not `[n, d]`.
  """
  check_episodes(episodes)
  inputs = first_support(episodes)
  params, state = network.init(key, inputs)
  check_padding(state, episodes)
  check_embedding(network, params, state, inputs)
  return params, state


def first_support(episodes: Episode) -> Inputs:
  """The support inputs of a batch's first task, to initialize a network with."""
  return jax.tree.map(lambda x: x[0], episodes.support.inputs)
