"""Relation networks (Sung et al. 2018, arXiv:1711.06025)."""

import jax
import jax.numpy as jnp

from metajax.learners.metric import by_comparison
from metajax.losses import squared_error_of_scores
from metajax.predictors import class_means
from metajax.types import Learner, Network


def relation(network: Network, module: Network, *, at_once: int | None = None) -> Learner:
  """Learns features, and a network that says of two whether they are of one class:

      score_k(x) = sigmoid(module([mean_{support of k} f, f(x)]))

  by the mean squared error between scores and one-hot labels, as in the paper. The paper *sums* the features of a
  class; here they are averaged, so that scores do not depend on the number of shots: a network trained on 1 shot and
  tested on 5 falls apart under the sum. The prediction is the scores, 0 to 1; a way without support has the score 0.
  Batch norm as in `prototypical`: the prediction is inductive. Any number of ways and shots.

  Args:
    network: inputs `[n, ...]` to features `[n, ..., c]`, such as the maps of `conv4(..., pool="none")`.
    module: pairs of features, side by side in the last axis, `[m, ..., 2 c]`, to `[m, 1]`, before the sigmoid.
    at_once: how many tasks run as one vectorised group.

  Raises:
    ValueError: at init, if labels are not one-hot or the module does not give one number a pair.
  """

  def pairs(support, labels, queries):
    """`[n ways, ..., 2 c]`: every query beside every class."""
    means = class_means(support, labels)
    shape = (len(queries), *means.shape)
    both = [jnp.broadcast_to(means[None], shape), jnp.broadcast_to(queries[:, None], shape)]
    return jnp.concatenate(both, -1).reshape(-1, *shape[2:-1], 2 * shape[-1])

  def init(key, support, labels, queries):
    given = pairs(support, labels, queries)
    params, state = module.init(key, given)
    shape = jax.eval_shape(lambda: module.apply(params, state, given, train=False)[0]).shape
    if shape != (len(given), 1):
      raise ValueError(f"expected a module from {len(given)} pairs to [{len(given)}, 1], got {list(shape)}")
    return params, state

  def apply(params, state, support, labels, queries, *, train, key=None):
    given = pairs(support, labels, queries)
    found, state = module.apply(params, state, given, train=train, key=key)
    scores = jax.nn.sigmoid(found.reshape(len(queries), labels.shape[-1]))
    return jnp.where(labels.any(0), scores, 0), state

  return by_comparison(network, Network(init, apply), loss=squared_error_of_scores, at_once=at_once)
