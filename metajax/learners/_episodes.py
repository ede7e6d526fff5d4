"""Shared parts of episodic learners: from the logits of one task to the loss of a batch of tasks."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from metajax.learners._checks import check_embedding, check_episodes, check_mask, check_padding
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
  """`(params, state, support, queries, key=None) -> (query outputs, state, metrics)` for one task."""

  def __call__(
    self, params: Params, state: State, support: Examples, queries: Inputs, key: Key | None = None, /
  ) -> tuple[Any, State, Metrics]: ...


def episodic_loss(
  answer: Answer, loss: LossOfOutputs = cross_entropy, chunk_size: int | None = None, classifies: bool | None = None
) -> BatchLoss:
  """A Learner's `loss`: the mean query loss over tasks.

  Args:
    answer: Query outputs of one task.
    loss: Query loss, `(outputs, labels) -> scalar`.
    chunk_size: Number of tasks per vectorized group.
    classifies: Whether labels are one-hot; by default, whether the loss is cross-entropy. If so, a task whose query
      labels are all zero is padding and weighs nothing, and the metrics include the accuracy.
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
  """The result of a `TaskLoss` from the loss and outputs of a task; a classifier's metrics include the accuracy."""
  if classifies:
    metrics = {"accuracy": accuracy(outputs, query.labels), **metrics}
  return loss, ((state, metrics), weight_of(query, classifies))


def mean_over_episodes(task_loss: TaskLoss, chunk_size: int | None = None) -> BatchLoss:
  """The weighted mean of a task loss over the tasks of a batch, with a different key per task."""

  def batch_loss(params, state, episodes, key):
    keys = jax.random.split(key, jax.tree.leaves(episodes)[0].shape[0])
    return mean_over_tasks(task_loss, chunk_size)(params, state, (episodes, keys))

  return batch_loss


def predict_of(answer: Answer) -> PredictFn:
  """A Learner's `predict`: the outputs of an `Answer` only."""

  def predict(params, state, support, inputs):
    return answer(params, state, support, inputs)[0]

  return predict


def weight_of(query: Examples, classifies: bool) -> Scalar | float:
  """The weight of a task: 1, or 0 for padding, a task whose query set has no labels."""
  return jnp.any(query.labels != 0) if classifies else 1.0


def init_embedding(network: Network, key: Key, episodes: Episode) -> tuple[Params, State]:
  """Initializes a network that embeds the inputs of episodes.

  Raises:
    ValueError: If labels are not one-hot, rows are padded and the network keeps batch statistics, or outputs are not
      `[n, d]`.
  """
  check_episodes(episodes)
  inputs = first_support(episodes)
  params, state = network.init(key, inputs)
  check_padding(state, episodes)
  check_mask(network, params, state, inputs)
  check_embedding(network, params, state, inputs)
  return params, state


def first_support(episodes: Episode) -> Inputs:
  """The support inputs of the first task of a batch, to initialize a network with."""
  return jax.tree.map(lambda x: x[0], episodes.support.inputs)
