"""Supervised pre-training on all base classes, the baseline of few-shot learning (arXiv:1904.04232, 2003.11539)."""

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
  """Supervised pre-training: learns to classify all base classes, then embeds new tasks (arXiv:1904.04232, 2003.11539).

      minimize  cross_entropy(head(encoder(inputs)), labels)  over batches of `Examples`

  At test time the head is discarded, and `predictor` classifies by the encoder's features: transfer learning. Batch
  norm uses running statistics, unless the predictor does otherwise, so one query does not depend on the others.

  Args:
    encoder: Inputs `[n, ...]` to features `[n, d]`.
    predictor: Few-shot predictor `embed -> predict`, such as `nearest_centroid` or `partial(adapted_head, adapt=...)`;
      any of `metajax.predictors`.
    head: Function `classes -> Network` from features to logits, given the number of training classes.

  Returns:
    A Learner; `predict` returns logits `[n, ways]`.

  Raises:
    TypeError: If `encoder` is not a Network, or `predictor` or `head` not a function.
    ValueError: At init, if labels are not one-hot `[n, classes]`, the head's outputs do not fit them, or rows are
      padded and the encoder keeps batch statistics.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Examples, learners, networks
    >>> learner = learners.supervised(networks.mlp((4,), 2))
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Examples(jnp.ones((8, 4)), jnp.eye(8)))
    >>> support = Examples(jnp.ones((3, 4)), jnp.eye(3))  # a new task of 3 ways and 1 shot
    >>> jax.eval_shape(learner.predict, params, state, support, jnp.ones((5, 4))).shape
    (5, 3)
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
