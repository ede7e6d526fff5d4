"""Siamese networks (Koch, Zemel and Salakhutdinov 2015, Siamese neural networks for one-shot image recognition)."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from metajax.augment import augment_batch
from metajax.compose import linear
from metajax.compose.combinators import check_networks
from metajax.learners._checks import (
  check_augmentation,
  check_examples,
  check_padded_rows,
  check_positives,
  check_rows,
  inputs_of,
)
from metajax.learners._comparison import embed_together
from metajax.losses import batch_cross_entropy, binary_cross_entropy
from metajax.losses.classification import right_if_known
from metajax.losses.metric import relations
from metajax.predictors import largest_by_way
from metajax.types import Array, Augmentation, BatchLoss, Examples, InitFn, Inputs, Key, Learner, Network, Pair, Params

Pairs = Literal["given", "batch"]
COMPARE = linear(1)  # alpha and b, on absolute differences


def siamese(network: Network, *, pairs: Pairs = "given", augmentation: Augmentation | None = None) -> Learner:
  """Siamese networks: learn whether two images are of one class, by tied encoders and a weighted L1 distance.

      p(x, y) = sigmoid(sum_j alpha_j |f(x)_j - f(y)_j| + b)

  Training minimizes the binary cross-entropy. The predicted class of a query is that of the support image with the
  largest `p`: the logit of a way is its largest `log p`. A network with batch norm is trained on the joint statistics
  of both halves of the pairs and predicts with running statistics, so one query does not depend on the others.

  A batch is `Examples` whose inputs are a `Pair` of `[n, ...]` and whose labels are one-hot `[n, 2]`: different, same
  (`data.pairs`). With `pairs="batch"` it is `Examples` with several rows per class (`data.balanced`): all pairs count,
  same-class pairs for half of the loss, and each image is embedded once. With `augmentation` it is images `[n, ...]`,
  or `Examples` whose labels are ignored; each image is a class. Pairs alternate: two views of one image, then views of
  an image and of the next one.

  Args:
    network: Inputs `[n, ...]` to embeddings `[n, d]`.
    pairs: Source of the pairs, "given" or "batch".
    augmentation: Function `(key, image) -> image`, such as `augment.image.affine()`; None: the batch is pairs.

  Returns:
    A Learner; `predict` returns logits `[n, ways]`.

  Raises:
    TypeError: If `network` is not a Network, or `augmentation` not a function.
    ValueError: If `pairs` is unknown, or "batch" with `augmentation`; at init, if the inputs are not a `Pair`, labels
      are not one-hot `[n, 2]`, a labeled batch has no positive or no negative pair, the network's outputs are not
      `[n, d]`, or rows are padded and it keeps batch statistics.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Examples, Pair, learners, networks
    >>> learner = learners.siamese(networks.mlp((4,), 2))
    >>> pairs = Examples(Pair(jnp.ones((8, 4)), jnp.ones((8, 4))), jnp.tile(jnp.eye(2), (4, 1)))
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), pairs)
    >>> jax.eval_shape(learner.embed, params, state, pairs.inputs.first).shape
    (8, 2)
  """
  check_networks(network=network)
  check_augmentation("augmentation", augmentation)
  if pairs not in get_args(Pairs):
    raise ValueError(f"expected pairs to be 'given' or 'batch', got {pairs!r}")
  if pairs == "batch" and augmentation is not None:
    raise ValueError("expected pairs 'given' with an augmentation, which generates the pairs, got 'batch'")
  init, loss = _of_batch(network) if pairs == "batch" else _of_pairs(network, augmentation)

  def embed(params, state, inputs):
    return network.apply(params["encoder"], state, inputs, train=False)[0]

  def predict(params, state, support, inputs):
    support_features, query_features = embed(params, state, support.inputs), embed(params, state, inputs)
    scores = jax.vmap(lambda query: likelihood(params, query, support_features))(query_features)
    return largest_by_way(jax.nn.log_sigmoid(scores), support.labels)

  return Learner(init, loss, embed, predict)


def likelihood(params: Params, first: Array, second: Array) -> Array:
  """The logit of `p` for rows of two embeddings."""
  return COMPARE.apply(params["compare"], {}, jnp.abs(first - second), train=True)[0][..., 0]


def _of_pairs(network: Network, augmentation: Augmentation | None) -> tuple[InitFn, BatchLoss]:
  """`init` and `loss` for given pairs, or for pairs of views."""

  def pairs(key, batch) -> Examples:
    if augmentation is None:
      return _checked_pairs(batch)
    return pairs_of_one(augmentation, key, inputs_of(batch))

  def init(key, batch):
    encoder_key, head_key, pair_key = jax.random.split(key, 3)
    shown = pairs(pair_key, batch) if augmentation is None else jax.eval_shape(pairs, pair_key, batch)
    inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shown.inputs.first)
    return _init(network, encoder_key, head_key, inputs, batch if augmentation is None else None)

  def loss(params, state, batch, key):
    pair_key, network_key = jax.random.split(key)
    (first, second), labels = pairs(pair_key, batch)
    halves, state = embed_together(network, params["encoder"], state, (first, second), network_key)
    logits = likelihood(params, *halves)
    right = right_if_known((logits > 0) == (labels[:, 1] > 0), jnp.isnan(logits))
    metrics = {"accuracy": jnp.where(labels.any(-1), right, 0).sum() / jnp.maximum(labels.sum(), 1)}
    return binary_cross_entropy(logits, labels), (state, metrics)

  return init, loss


def _of_batch(network: Network) -> tuple[InitFn, BatchLoss]:
  """`init` and `loss` for all pairs of a labeled batch."""

  def init(key, batch):
    encoder_key, head_key, _ = jax.random.split(key, 3)
    check_examples(batch)
    check_positives(batch)
    return _init(network, encoder_key, head_key, batch.inputs, batch)

  def loss(params, state, batch, key):
    embedded, state = network.apply(params["encoder"], state, batch.inputs, train=True, key=key)
    logits = jax.vmap(lambda row: likelihood(params, row, embedded))(embedded)
    same, other = relations(logits, batch.labels)

    def share(right, of):
      counted = right_if_known(right, jnp.isnan(logits))
      return jnp.sum(jnp.where(of, counted, 0)) / jnp.maximum(of.sum(), 1)

    metrics = {"accuracy": (share(logits > 0, same) + share(logits <= 0, other)) / 2}
    return batch_cross_entropy(logits, batch.labels), (state, metrics)

  return init, loss


def _init(network, encoder_key, head_key, inputs, labeled: Examples | None):
  params, state = network.init(encoder_key, inputs)
  if labeled is not None:
    check_padded_rows(state, labeled)
  shape = jax.eval_shape(lambda: network.apply(params, state, inputs, train=False)[0])
  check_rows(shape)
  weights, _ = COMPARE.init(head_key, jnp.zeros((1, shape.shape[-1])))
  return {"encoder": params, "compare": weights}, state


def _checked_pairs(batch) -> Examples:
  check_examples(batch)
  if not isinstance(batch.inputs, Pair):
    raise ValueError(f"expected Examples whose inputs are a Pair, got one of type {type(batch.inputs).__name__}")
  if batch.labels.shape[-1] != 2:
    raise ValueError(f"expected labels [n, 2], different and same, got {list(batch.labels.shape)}")
  return batch


def pairs_of_one(augmentation: Augmentation, key: Key, images: Inputs) -> Examples:
  """One pair per image `[n, ...]`, alternately of two views of an image, and of views of two images.

  Raises:
    ValueError: If the batch has fewer than two images.
  """
  rows = jax.tree.leaves(images)[0].shape[0]
  if rows < 2:
    raise ValueError(f"expected at least 2 images to pair, got {rows}")
  same = jnp.arange(rows) % 2 == 0
  of_first, of_second = jax.random.split(key)
  other = jax.tree.map(lambda x: jnp.where(same.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.roll(x, -1, 0)), images)
  pair = Pair(augment_batch(augmentation, of_first, images), augment_batch(augmentation, of_second, other))
  return Examples(pair, jax.nn.one_hot(same.astype(int), 2))
