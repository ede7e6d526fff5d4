"""Relation networks (Sung et al. 2018, arXiv:1711.06025)."""

import jax
import jax.numpy as jnp

from metajax.compose.combinators import blank, check_networks
from metajax.learners._comparison import by_comparison
from metajax.losses import mse
from metajax.predictors import class_means
from metajax.types import Learner, Network


def relation(network: Network, module: Network, *, chunk_size: int | None = None) -> Learner:
  """Learns features, and a network that says of two whether they are of one class:

      score_k(x) = sigmoid(module(mean_{support of k} f, f(x)))

  by the mean squared error between scores and one-hot labels, as in the paper. The paper *sums* the features of a
  class; here they are averaged, so that scores do not depend on the number of shots: a network trained on 1 shot and
  tested on 5 falls apart under the sum. The prediction is the scores, 0 to 1; a way without support has the score 0.
  Batch norm as in `prototypical`: the prediction is inductive. Any number of ways and shots.

  Args:
    network: inputs `[n, ...]` to features `[n, ..., c]`, such as the maps of `conv4(..., pool="none")`.
    module: features of classes `[ways, ..., c]` and of queries `[n, ..., c]` to `[n, ways]`, a number for each pair
      before the sigmoid: `relation_module()`, or `on_pairs` of a network of both side by side.
    chunk_size: how many tasks run as one vectorized group.

  Raises:
    TypeError: if one of them is no Network.
    ValueError: at init, if labels are not one-hot or the module does not give one number a pair.
  """
  check_networks(module=module)

  def init(key, support, labels, queries):
    means = blank(class_means, support, labels)
    params, state = module.init(key, means, queries)
    shape = jax.eval_shape(lambda: module.apply(params, state, means, queries, train=False)[0]).shape
    expected = (len(queries), len(means))
    if shape != expected:
      raise ValueError(f"expected a module from {expected[1]} classes and {expected[0]} queries to {list(expected)}, "
                       f"got {list(shape)}")  # fmt: skip
    return params, state

  def apply(params, state, support, labels, queries, *, train, key=None):
    means = class_means(support, labels)
    found, state = module.apply(params, state, means, queries, train=train, key=key)
    return jnp.where(labels.any(0), jax.nn.sigmoid(found), 0), state

  return by_comparison(network, Network(init, apply), loss=mse, chunk_size=chunk_size)
