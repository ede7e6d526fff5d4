"""What learners trained on episodes share: from one task's logits to a Learner's loss over a batch of tasks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.losses import accuracy, check_one_hot, cross_entropy
from metajax.mesh import mean_over_tasks
from metajax.types import (
  Array,
  BatchLoss,
  Episode,
  Examples,
  Inputs,
  Key,
  LossOfOutputs,
  Metrics,
  Network,
  Params,
  Scalar,
  State,
)

RunTask = Callable[
  [Params, State, Episode, Key], tuple[Any, State, Metrics]
]  # -> (outputs of the query, state, metrics)
TaskLoss = Callable[[Params, State, Episode, Key], tuple[Scalar, Any, State, Metrics]]  # -> (loss, outputs, state, ...)


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
    labels = episode.query.labels
    if classifies:
      metrics = {"accuracy": accuracy(outputs, labels), **metrics}
    weight = jnp.any(labels != 0) if classifies else 1.0
    return loss, (state, metrics), weight

  def batch_loss(params, state, episodes: Episode, key):
    keys = jax.random.split(key, jax.tree.leaves(episodes)[0].shape[0])
    return mean_over_tasks(task, at_once)(params, state, (episodes, keys))

  return batch_loss


def check_episodes(episodes: Episode):
  """Looks at a batch of classification episodes before anything is compiled.

  Raises:
    ValueError: if they are not episodes, labels are not one-hot `[tasks, n, ways]`, or a support or query set is empty.
  """
  if not isinstance(episodes, Episode):
    raise ValueError(f"expected a batch of Episodes, got one of type {type(episodes).__name__}")
  for name, examples in episodes._asdict().items():
    shape = jnp.shape(examples.labels)
    if len(shape) != 3 or 0 in shape:
      raise ValueError(f"expected one-hot {name} labels [tasks, n, ways], none of them 0, got shape {list(shape)}")
    check_one_hot(examples.labels)


def check_examples(batch: Examples):
  """Looks at a batch of labelled examples before anything is compiled.

  Raises:
    ValueError: if they are not Examples, or labels are not one-hot `[n, classes]`.
  """
  if not isinstance(batch, Examples):
    raise ValueError(f"expected a batch of Examples, got one of type {type(batch).__name__}")
  if jnp.ndim(batch.labels) != 2:
    raise ValueError(f"expected one-hot labels [n, classes], got an array of shape {list(jnp.shape(batch.labels))}")
  check_one_hot(batch.labels)


def check_padding(state: State, episodes: Episode):
  """`check_padded_rows` of both sets; a task that is padding as a whole is right."""
  for name, examples in episodes._asdict().items():
    check_padded_rows(state, examples, f" in the {name}")


def check_padded_rows(state: State, examples: Examples, where: str = ""):
  """Refuses padded rows where a network keeps batch statistics: they would be part of them.

  Raises:
    ValueError: if some rows of labels `[..., n, ways]` are zero and others of the same set are not.
  """
  if jax.tree.leaves(state) and not isinstance(examples.labels, jax.core.Tracer):
    labelled = np.asarray(examples.labels).any(-1)
    if (labelled.any(-1) & ~labelled.all(-1)).any():
      raise ValueError(f"expected no padded rows with a network that keeps batch statistics, got some{where}")


def check_embedding(network: Network, params: Params, state: State, inputs: Inputs):
  """Refuses a network that does not embed inputs as rows.

  Raises:
    ValueError: with the shape of its output.
  """
  check_rows(jax.eval_shape(lambda: network.apply(params, state, inputs, train=False)[0]))


def check_rows(features: Array | jax.ShapeDtypeStruct):
  """Refuses embeddings that are not rows.

  Raises:
    ValueError: with their shape.
  """
  if len(features.shape) != 2:
    raise ValueError(f"expected a network that embeds inputs as [n, d], got an output of shape {list(features.shape)}")


def first_support(episodes: Episode):
  """The support inputs of a batch's first task, to initialise a network with."""
  return jax.tree.map(lambda x: x[0], episodes.support.inputs)
