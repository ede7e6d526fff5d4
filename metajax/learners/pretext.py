"""Representations from labels that are invented: one learner for every pretext task."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.compose import tied, with_head
from metajax.learners.simclr import check_views, pictures_of
from metajax.losses import accuracy, cross_entropy
from metajax.predictors import nearest_centroid
from metajax.types import Examples, Learner, Network

PICTURE = 4  # axes of a batch of pictures


def pretext(task: Callable, encoder: Network, head: Network, *, predictor: Callable = nearest_centroid) -> Learner:
  """Learns to find the labels that a task has invented:

      minimise  cross_entropy(head(encoder(x)), label)   for (x, label) of task(key, pictures)

  The encoder is one, with tied weights, over all parts of an input `[n, parts, ...]` (tiles, frames), whose features
  are put side by side for the head; `embed` is the encoder, of whole pictures. A batch is pictures `[n, h, w, c]` in
  [0, 1], or `Examples` of them, whose labels are not looked at, but for an all-zero row, which is padding. Metrics hold
  the task's "accuracy", 0 to 1.

  Args:
    task: `(key, pictures) -> Examples`, such as `pretexts.rotation()`; rows of a picture follow each other.
    encoder: `[n, h, w, c]` to `[n, d]`.
    head: `[n, parts * d]` to logits `[n, classes of the task]`, such as `linear(4)`.
    predictor: of an embedding, for few-shot tasks.

  Raises:
    ValueError: at init, if the batch is no finite pictures in [0, 1], or the head has not an output for each class of
      the task.
  """

  def network(inputs):
    return with_head(tied(encoder) if inputs.ndim > PICTURE else encoder, head)

  def init(key, batch):
    pictures = pictures_of(batch)
    check_views(pictures)
    invented = jax.eval_shape(task, key, pictures)
    given = jnp.zeros(invented.inputs.shape, invented.inputs.dtype)
    params, state = network(given).init(key, given)
    outputs = jax.eval_shape(lambda: network(given).apply(params, state, given, train=False)[0]).shape
    if outputs != invented.labels.shape:
      raise ValueError(
        f"expected a head of {invented.labels.shape[-1]} outputs, the task's classes, got {list(outputs)}"
      )
    return params, state

  def loss(params, state, batch, key):
    task_key, key = jax.random.split(key)
    inputs, labels = task(task_key, pictures_of(batch))
    if isinstance(batch, Examples):
      there = batch.labels.any(-1, keepdims=True)
      labels = labels * jnp.repeat(there, len(labels) // len(there), 0)
    logits, state = network(inputs).apply(params, state, inputs, train=True, key=key)
    return cross_entropy(logits, labels), (state, {"accuracy": accuracy(logits, labels)})

  def embed(params, state, inputs):
    return encoder.apply(params["encoder"], state["encoder"], inputs, train=False)[0]

  return Learner(init, loss, embed, predictor(embed))
