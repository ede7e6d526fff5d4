"""Relation networks (Sung et al. 2018, arXiv:1711.06025)."""

import jax
import jax.numpy as jnp

from metajax.compose.combinators import blank, check_networks
from metajax.learners._comparison import by_comparison
from metajax.losses import mse
from metajax.predictors import class_means
from metajax.types import Array, Labels, Learner, Network, Padded, Scalar


def relation(network: Network, module: Network, *, chunk_size: int | None = None) -> Learner:
  """Relation networks: learn features and a network that scores pairs of them as same-class (arXiv:1711.06025).

      score_k(x) = sigmoid(module(mean_{support of k} f, f(x)))

  Training minimizes the mean squared error between scores and one-hot labels, as in the paper, over the ways that have
  support. The paper *sums* the
  features of a class; here they are averaged, so that scores do not depend on the number of shots: under the sum, a
  network trained on 1 shot fails on 5. Batch norm as in `prototypical`: the prediction is inductive. Any number of ways
  and shots.

  Args:
    network: Inputs `[n, ...]` to features `[n, ..., c]`, such as the maps of `conv4(..., pool="none")`.
    module: Features of classes `[ways, ..., c]` and of queries `[n, ..., c]` to `[n, ways]`, a number per pair before
      the sigmoid: `relation_module()`, or `on_pairs` of a network of concatenated features.
    chunk_size: Number of tasks per vectorized group.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns scores `[n, ways]` from 0 to 1; 0 for a way without support.

  Raises:
    TypeError: If `network` or `module` is not a Network.
    ValueError: At init, if labels are not one-hot or the module does not give one number per pair.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Episode, Examples, compose, learners, networks
    >>> learner = learners.relation(networks.mlp((4,), 2), compose.on_pairs(networks.mlp((4,), 1)))
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  check_networks(module=module)

  def init(key, support, labels, queries):
    means = blank(class_means, support, labels)
    params, state = module.init(key, means, queries)
    shape = jax.eval_shape(lambda: module.apply(params, state, means, queries, train=False)[0]).shape
    expected = (queries.shape[0], means.shape[0])
    if shape != expected:
      raise ValueError(f"expected a module from {expected[1]} classes and {expected[0]} queries to {list(expected)}, "
                       f"got {list(shape)}")  # fmt: skip
    return params, state

  def apply(params, state, support, labels, queries, *, train, key=None):
    means = class_means(support, labels)
    means = Padded(means, labels.any(0)) if isinstance(queries, Padded) else means
    found, state = module.apply(params, state, means, queries, train=train, key=key)
    return jnp.where(labels.any(0), jax.nn.sigmoid(found), 0), state

  return by_comparison(network, Network(init, apply), loss=_error, chunk_size=chunk_size)


def _error(scores: Array, labels: Labels, support: Labels) -> Scalar:
  """The mean squared error over queries and the ways that have support; the error of other ways, without it, is 0."""
  there = jnp.maximum(support.any(0).sum(), 1)
  return mse(scores, labels) * (scores.shape[-1] / there)
