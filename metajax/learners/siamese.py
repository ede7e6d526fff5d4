"""Siamese networks (Koch, Zemel and Salakhutdinov 2015, Siamese neural networks for one-shot image recognition)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.compose import linear
from metajax.learners.episodic import check_examples, check_padded_rows
from metajax.learners.metric import check_rows
from metajax.losses import binary_cross_entropy
from metajax.predictors import largest_by_way
from metajax.types import Array, Examples, Learner, Network, Pair


def siamese(network: Network, *, pretext: Callable | None = None) -> Learner:
  """Learns whether two pictures are of one class, by tied networks and a weighted L1 distance:

      p(x, y) = sigmoid(sum_j alpha_j |f(x)_j - f(y)_j| + b)

  trained by binary cross-entropy. The prediction of a query is the class of the support picture with the largest `p`:
  the logits are `log p` of each way's largest. A network with batch norm is trained on the statistics of both halves of
  the pairs together and predicts with its running statistics, so one query does not depend on the others.

  A batch is `Examples` whose inputs are a `Pair` of `[n, ...]` and whose labels are one-hot `[n, 2]`: different, same
  (`data.pairs`). With `pretext` it is whatever that makes pairs of: `pretexts.distorted_pairs(view)` distorts given
  ones, `pretexts.one_example_pairs(view)` needs unlabelled pictures alone.

  Args:
    network: inputs `[n, ...]` to embeddings `[n, d]`.
    pretext: `(key, batch) -> Examples` of pairs; None: the batch is that.

  Raises:
    ValueError: at init, if the inputs are no `Pair`, labels are not one-hot `[n, 2]`, the network's outputs are not
      `[n, d]`, or rows are padded and it keeps batch statistics.
  """
  compare = linear(1)

  def pairs(key, batch) -> Examples:
    found = batch if pretext is None else pretext(key, batch)
    check_examples(found)
    if not isinstance(found.inputs, Pair):
      raise ValueError(f"expected Examples whose inputs are a Pair, got one of type {type(found.inputs).__name__}")
    if found.labels.shape[-1] != 2:
      raise ValueError(f"expected labels [n, 2], different and same, got {list(found.labels.shape)}")
    return found

  def init(key, batch):
    encoder_key, head_key, pair_key = jax.random.split(key, 3)
    if isinstance(batch, Examples):
      check_examples(batch)
    shown = jax.eval_shape(pairs, pair_key, batch) if pretext else pairs(pair_key, batch)
    inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shown.inputs.first)
    params, state = network.init(encoder_key, inputs)
    if isinstance(batch, Examples):
      check_padded_rows(state, batch)
    shape = jax.eval_shape(lambda: network.apply(params, state, inputs, train=False)[0])
    check_rows(shape)
    weights, _ = compare.init(head_key, jnp.zeros((1, shape.shape[-1])))
    return {"encoder": params, "compare": weights}, state

  def likelihood(params, first: Array, second: Array) -> Array:
    """The logit of `p` for rows of embeddings."""
    return compare.apply(params["compare"], {}, jnp.abs(first - second), train=True)[0][..., 0]

  def loss(params, state, batch, key):
    pair_key, network_key = jax.random.split(key)
    (first, second), labels = pairs(pair_key, batch)
    # Side by side and not one after the other, so that rows stay where they are on a mesh.
    both = jax.tree.map(lambda a, b: jnp.stack([a, b], 1).reshape(-1, *a.shape[1:]), first, second)
    embedded, state = network.apply(params["encoder"], state, both, train=True, key=network_key)
    logits = likelihood(params, embedded[0::2], embedded[1::2])
    right = ((logits > 0) == (labels[:, 1] > 0)) * labels.sum(-1)
    metrics = {"accuracy": right.sum() / jnp.maximum(labels.sum(), 1)}
    return binary_cross_entropy(logits, labels), (state, metrics)

  def embed(params, state, inputs):
    return network.apply(params["encoder"], state, inputs, train=False)[0]

  def predict(params, state, support, inputs):
    known, asked = embed(params, state, support.inputs), embed(params, state, inputs)
    scores = jax.vmap(lambda query: likelihood(params, query, known))(asked)
    return largest_by_way(jax.nn.log_sigmoid(scores), support.labels)

  return Learner(init, loss, embed, predict)
