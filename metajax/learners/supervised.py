"""Supervised pre-training on all base classes: the baseline of few-shot learning (arXiv:1904.04232, 2003.11539)."""

from collections.abc import Callable

import jax

from metajax import checks
from metajax.compose import linear, with_head
from metajax.compose.combinators import check_networks
from metajax.learners._checks import check_examples, check_padded_rows, check_predictor
from metajax.losses import accuracy, check_fits, cross_entropy
from metajax.predictors import nearest_centroid
from metajax.types import Learner, Network, Predictor


def supervised(
  encoder: Network, predictor: Predictor = nearest_centroid, *, head: Callable[[int], Network] = linear
) -> Learner:
  """Learns to tell all training classes apart, and meets a new task with the encoder's features:

      minimize  cross_entropy(head(encoder(inputs)), labels)  over batches of `Examples`

  At test the head is left behind, and `predictor` makes a classifier of the support: transfer learning. Batch norm has
  its running statistics, unless a predictor says otherwise, so that the answer to a query depends on no other.

  Args:
    encoder: inputs `[n, ...]` to features `[n, d]`.
    predictor: `embed -> predict`, such as `nearest_centroid` or `partial(adapted_head, adapt=...)`; any of
      `metajax.predictors`.
    head: `classes -> Network` from features to logits, for as many classes as the training labels have.

  Raises:
    TypeError: if the encoder is no Network, or `predictor` or `head` no function.
    ValueError: at init, if labels are not one-hot `[n, classes]` or the head's outputs do not fit them; rows are padded
      and the encoder keeps batch statistics.
  """

  check_networks(encoder=encoder)
  check_predictor(predictor)
  checks.function("head", head, "classes -> Network, such as linear")

  def init(key, batch):
    check_examples(batch)
    network = with_head(encoder, head(batch.labels.shape[-1]))
    params, state = network.init(key, batch.inputs)
    check_padded_rows(state, batch)
    check_fits(jax.eval_shape(lambda: network.apply(params, state, batch.inputs, train=True)[0]), batch.labels)
    return params, state

  def loss(params, state, batch, key):
    network = with_head(encoder, head(batch.labels.shape[-1]))
    logits, state = network.apply(params, state, batch.inputs, train=True, key=key)
    return cross_entropy(logits, batch.labels), (state, {"accuracy": accuracy(logits, batch.labels)})

  def embed(params, state, inputs):
    return encoder.apply(params["encoder"], state["encoder"], inputs, train=False)[0]

  return Learner(init, loss, embed, predictor(embed))
