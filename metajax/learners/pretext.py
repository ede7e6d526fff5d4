"""Pretext tasks: representations from labels derived from the data, with one learner for all tasks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.compose import parallel, tied, with_head
from metajax.compose.combinators import check_networks
from metajax.learners._checks import check_predictor, check_views, inputs_of
from metajax.losses import accuracy, cross_entropy
from metajax.predictors import nearest_centroid
from metajax.types import (
  Array,
  Batch,
  EmbedFn,
  Examples,
  Learner,
  Network,
  Pair,
  Predictor,
  PretextFn,
)

IMAGE = 4  # axes of a batch of images


def pretext(
  task: PretextFn,
  encoder: Network | dict[str, Network],
  head: Network,
  *,
  look: Callable[[Array], Array] = lambda images: images,
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """Pretext learner: learns an encoder by predicting the labels that a pretext task derives from the data.

      minimize  cross_entropy(head(encoder(x)), label)   for (x, label) of task(key, batch)

  One encoder, with tied weights, embeds all parts of an input `[n, parts, ...]` (tiles, frames); the head gets their
  concatenated features. A batch is any input of the task, e.g. images `[n, h, w, c]` in [0, 1], or `Examples` of it,
  whose labels only mark padding (an all-zero row). Metrics hold the task's "accuracy", 0 to 1.

  Args:
    task: Function `(key, batch) -> Examples`, such as `pretexts.rotation()`; rows of one image are consecutive.
    encoder: `[n, h, w, c]` to `[n, d]`. For a task with named inputs, a network each, `{"seen": ..., "heard": ...}`.
    head: `[n, parts * d]` to logits `[n, classes of the task]`, such as `linear(4)`.
    look: Transform of images in `embed`, `[n, h, w, c]` to the encoder's training inputs, or to several parts of them,
      `[n, parts, ...]`: an encoder of tiles embeds tiles better, `pretexts.middle_tiles()`.
    predictor: Few-shot predictor on the embedding.

  Returns:
    A Learner whose `embed` is the encoder (the first of several), of images `[n, h, w, c]`, or of clips
    `[n, frames, ...]` by frames.

  Raises:
    TypeError: If a network is not a Network, or `task`, `look` or `predictor` not a function.
    ValueError: At init, if images are not finite in [0, 1], or the head's outputs do not match the task's classes.
  """
  checks.function("task", task, "(key, batch) -> Examples, such as pretexts.rotation()")
  check_networks(**(encoder if isinstance(encoder, dict) else {"encoder": encoder}), head=head)
  checks.function("look", look, "images -> images")
  check_predictor(predictor)

  def init(key, batch):
    given = inputs_of(batch)
    for part in given if isinstance(given, Pair) else (given,):
      check_views(part)
    invented = jax.eval_shape(task, key, given)
    inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), invented.inputs)
    network = _network(encoder, head, inputs)
    _check_outputs(network, *(made := network.init(key, inputs)), inputs, invented.labels)
    return made

  def loss(params, state, batch, key):
    checks.not_bytes("images", inputs_of(batch))
    task_key, key = jax.random.split(key)
    inputs, labels = task(task_key, inputs_of(batch))
    labels = _without_padding(labels, batch)
    logits, state = _network(encoder, head, inputs).apply(params, state, inputs, train=True, key=key)
    return cross_entropy(logits, labels), (state, {"accuracy": accuracy(logits, labels)})

  def embed(params, state, inputs):
    checks.not_bytes("images", inputs)
    return _embed(encoder, params["encoder"], state["encoder"], look(inputs))

  return Learner(init, loss, embed, predictor(embed))


def pretext_logits(encoder: Network | dict[str, Network], head: Network) -> EmbedFn:
  """Logits of a trained `pretext`: `(params, state, inputs of a task) -> [n, classes of the task]`."""

  def answer(params, state, inputs):
    return _network(encoder, head, inputs).apply(params, state, inputs, train=False)[0]

  return answer


def _network(encoder, head, inputs) -> Network:
  """The network from a task's inputs to its logits."""
  if isinstance(encoder, dict):
    return with_head(parallel(**{name: _over_parts(tower, inputs[name]) for name, tower in encoder.items()}), head)
  return with_head(_over_parts(encoder, inputs), head)


def _embed(encoder, params, state, inputs) -> Array:
  """Embeds by the encoder, or by the first of several."""
  if isinstance(encoder, dict):
    first = next(iter(encoder))
    encoder, params, state = encoder[first], params[first], state[first]
  return _over_parts(encoder, inputs).apply(params, state, inputs, train=False)[0]


def _without_padding(labels: Array, batch: Batch) -> Array:
  """The task's labels, with zeros for padded images."""
  if not isinstance(batch, Examples):
    return labels
  there = batch.labels.any(-1, keepdims=True)
  return labels * jnp.repeat(there, len(labels) // len(there), 0)


def _over_parts(encoder: Network, inputs) -> Network:
  return tied(encoder) if inputs.ndim > IMAGE else encoder


def _check_outputs(network, params, state, inputs, labels):
  outputs = jax.eval_shape(lambda: network.apply(params, state, inputs, train=False)[0]).shape
  if outputs != labels.shape:
    raise ValueError(f"expected a head of {labels.shape[-1]} outputs, the task's classes, got {list(outputs)}")
