"""Representations from labels that are invented: one learner for every pretext task."""

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
  """Learns to find the labels that a task has invented:

      minimize  cross_entropy(head(encoder(x)), label)   for (x, label) of task(key, batch)

  The encoder is one, with tied weights, over all parts of an input `[n, parts, ...]` (tiles, frames), whose features
  are put side by side for the head; `embed` is the encoder, of images, and of clips `[n, frames, ...]` by frames. A
  batch is what the task takes, such as images `[n, h, w, c]` in [0, 1], or `Examples` of that, whose labels are not
  looked at, but for an all-zero row, which is padding. Metrics hold the task's "accuracy", 0 to 1.

  Args:
    task: `(key, batch) -> Examples`, such as `pretexts.rotation()`; rows of an image follow each other.
    encoder: `[n, h, w, c]` to `[n, d]`. Of a task whose inputs are named, `{"seen": ..., "heard": ...}`, a network for
      each name; `embed` is the first one.
    head: `[n, parts * d]` to logits `[n, classes of the task]`, such as `linear(4)`.
    look: how `embed` looks at images, `[n, h, w, c]` to what the encoder has seen in training, or as many parts of
      it, `[n, parts, ...]`: an encoder of tiles does better on tiles, `pretexts.middle_tiles()`.
    predictor: of an embedding, for few-shot tasks.

  Raises:
    TypeError: if a network is no Network, or `task`, `look` or `predictor` no function.
    ValueError: at init, if the batch is not finite, or images not in [0, 1], or the head has not an output for each
      class of the task.
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
    params, state = network.init(key, inputs)
    _check_outputs(network, params, state, inputs, invented.labels)
    return params, state

  def loss(params, state, batch, key):
    task_key, key = jax.random.split(key)
    inputs, labels = task(task_key, inputs_of(batch))
    labels = _without_padding(labels, batch)
    logits, state = _network(encoder, head, inputs).apply(params, state, inputs, train=True, key=key)
    return cross_entropy(logits, labels), (state, {"accuracy": accuracy(logits, labels)})

  def embed(params, state, inputs):
    return _embed(encoder, params["encoder"], state["encoder"], look(inputs))

  return Learner(init, loss, embed, predictor(embed))


def pretext_logits(encoder: Network | dict[str, Network], head: Network) -> EmbedFn:
  """`(params, state, inputs of a task) -> logits [n, classes of the task]` of a trained `pretext`."""

  def answer(params, state, inputs):
    return _network(encoder, head, inputs).apply(params, state, inputs, train=False)[0]

  return answer


def _network(encoder, head, inputs) -> Network:
  """Of a task's inputs to its logits."""
  if isinstance(encoder, dict):
    return with_head(parallel(**{name: _over_parts(tower, inputs[name]) for name, tower in encoder.items()}), head)
  return with_head(_over_parts(encoder, inputs), head)


def _embed(encoder, params, state, inputs) -> Array:
  """By the encoder, or the first one of several."""
  if isinstance(encoder, dict):
    first = next(iter(encoder))
    encoder, params, state = encoder[first], params[first], state[first]
  return _over_parts(encoder, inputs).apply(params, state, inputs, train=False)[0]


def _without_padding(labels: Array, batch: Batch) -> Array:
  """The task's labels, zeros where they are of an image that is padding."""
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
