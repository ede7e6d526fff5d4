"""What learners trained on episodes share: from one task's logits to a Learner's loss over a batch of tasks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax.learners._checks import check_embedding, check_episodes, check_padding
from metajax.losses import accuracy, cross_entropy
from metajax.mesh import mean_over_tasks
from metajax.types import BatchLoss, Episode, Inputs, Key, LossOfOutputs, Metrics, Network, Params, Scalar, State

# (params, state, episode, key) -> (outputs of the query, state, metrics)
RunTask = Callable[[Params, State, Episode, Key], tuple[Any, State, Metrics]]
# the same -> (loss, outputs of the query, state, metrics)
TaskLoss = Callable[[Params, State, Episode, Key], tuple[Scalar, Any, State, Metrics]]
# (params, state, (episode, key)) -> (loss, (state, metrics), weight)
WeighedTask = Callable[[Params, State, tuple[Episode, Key]], tuple[Scalar, tuple[State, Metrics], Scalar | float]]


def episodic_loss(
  run: RunTask, loss: LossOfOutputs = cross_entropy, at_once: int | None = None, classifies: bool | None = None
) -> BatchLoss:
  """A Learner's `loss`: the mean over tasks of the loss of the query's outputs.

  Args:
    run: `(params, state, episode, key) -> (outputs, state, metrics)` for one task.
    loss: `(outputs, labels) -> scalar`.
    at_once: how many tasks run as one vectorised group.
    classifies: whether labels are one-hot; as the loss is cross-entropy, by default. A task whose query labels are all
      zero then is padding and weighs nothing, and the metrics gain the accuracy.
  """

  def with_loss(params, state, episode, key):
    outputs, state, metrics = run(params, state, episode, key)
    return loss(outputs, episode.query.labels), outputs, state, metrics

  return mean_over_episodes(with_loss, loss is cross_entropy if classifies is None else classifies, at_once)


def mean_over_episodes(with_loss: TaskLoss, classifies: bool, at_once: int | None = None) -> BatchLoss:
  """`episodic_loss` of what has a loss of its own: `with_loss(params, state, episode, key)` gives, for one task,
  `(loss, outputs, state, metrics)`."""

  def task(params, state, one):
    episode, key = one
    loss, outputs, state, metrics = with_loss(params, state, episode, key)
    if classifies:
      metrics = {"accuracy": accuracy(outputs, episode.query.labels), **metrics}
    return loss, (state, metrics), weight_of(episode, classifies)

  return mean_over_keyed(task, at_once)


def mean_over_keyed(task: WeighedTask, at_once: int | None = None) -> BatchLoss:
  """The weighted mean over a batch's tasks, of which each has a key of its own."""

  def batch_loss(params, state, episodes, key):
    keys = jax.random.split(key, jax.tree.leaves(episodes)[0].shape[0])
    return mean_over_tasks(task, at_once)(params, state, (episodes, keys))

  return batch_loss


def weight_of(episode: Episode, classifies: bool) -> Scalar | float:
  """1, or 0 for a task that is padding: one whose query has no label."""
  return jnp.any(episode.query.labels != 0) if classifies else 1.0


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
  """The support inputs of a batch's first task, to initialise a network with."""
  return jax.tree.map(lambda x: x[0], episodes.support.inputs)
