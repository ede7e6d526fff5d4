"""Ways to turn an embedding and a labelled support set into a classifier.

A predictor is a function of an `embed` that gives a Learner's `predict`; those with arguments of their own are made one
by `functools.partial`. Any embedding serves: `predictor(learner.embed)`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from metajax.compose import linear, perceptron, unit_rows
from metajax.losses import cross_entropy
from metajax.types import Adapt, Array, Examples, Scalar

EMPTY_WAY = -1e9  # the logit of a way without support: never chosen, and finite, so that no gradient is lost


def nearest_centroid(embed: Callable) -> Callable:
  """A `predict` whose logits are minus the squared Euclidean distances to the centroids of the support's embeddings.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
  """

  def predict(params, state, support, inputs):
    return centroid_logits(embed(params, state, support.inputs), support.labels, embed(params, state, inputs))

  return predict


def normalised(embed: Callable) -> Callable:
  """The embedding with rows of length 1."""
  return lambda params, state, inputs: unit_rows(embed(params, state, inputs))


def ridge(embed: Callable, strength: float = 1.0) -> Callable:
  """A `predict` by ridge regression of the support's one-hot labels on its embeddings; see `ridge_logits`."""

  def predict(params, state, support, inputs):
    known, asked = embed(params, state, support.inputs), embed(params, state, inputs)
    return ridge_logits(known, support.labels, asked, strength)

  return predict


def adapted_head(embed: Callable, adapt: Adapt, head: Callable = lambda ways: linear(ways, scale=0.0)) -> Callable:
  """A `predict` that trains a new head on the frozen embeddings of the support.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
    adapt: how it is trained, on the cross-entropy of the support, e.g. `gradient_steps(optax.sgd(0.1), 100)`.
    head: `ways -> Network` from features to logits: `linear` from zeros by default; `compose.cosine` is Baseline++
      (arXiv:1904.04232). Its initialisation is that of one key, the same in every task.

  Raises:
    ValueError: when called, if the head keeps state (batch statistics).
  """

  def predict(params, state, support, inputs):
    features, network = embed(params, state, support.inputs), head(support.labels.shape[-1])
    fresh, of_head = _fresh(network, features)
    loss = lambda fast, known: cross_entropy(network.apply(fast, of_head, known.inputs, train=True)[0], known.labels)
    adapted, _ = adapt(loss, fresh, Examples(features, support.labels))
    return network.apply(adapted, of_head, embed(params, state, inputs), train=False)[0]

  return predict


def perceptron_head(embed: Callable, adapt: Adapt, hidden: int = 0) -> Callable:
  """`adapted_head` with a perceptron: linear, or of one hidden layer of `hidden` units."""
  return adapted_head(embed, adapt, lambda ways: perceptron(hidden, ways))


def fine_tuned(embed: Callable, adapt: Adapt, head: Callable = lambda ways: linear(ways, scale=0.0)) -> Callable:
  """A `predict` that trains a new head and everything that it rests on, for one task.

  The state stays as it is: batch norm keeps the running statistics of pre-training.

  Args:
    embed: `(params, state, inputs) -> [n, d]`, differentiable in params.
    adapt: how all is trained, on the cross-entropy of the support. `then(only("head", ...), ...)` begins with the head;
      the two parts of its parameters are "embedding" and "head".
    head: as in `adapted_head`.
  """

  def predict(params, state, support, inputs):
    features, network = embed(params, state, support.inputs), head(support.labels.shape[-1])
    fresh, of_head = _fresh(network, features)

    def logits(fast, inputs):
      return network.apply(fast["head"], of_head, embed(fast["embedding"], state, inputs), train=True)[0]

    loss = lambda fast, known: cross_entropy(logits(fast, known.inputs), known.labels)
    adapted, _ = adapt(loss, {"embedding": params, "head": fresh}, support)
    return logits(adapted, inputs)

  return predict


def _fresh(network, features):
  """A new head's (params, state), which must not have batch statistics."""
  params, state = network.init(jax.random.key(0), features)
  if jax.tree.leaves(state):
    raise ValueError("expected a head without state (batch statistics): it is adapted to one support set")
  return params, state


def ridge_logits(support: Array, labels: Array, queries: Array, strength: Scalar | float) -> Array:
  """`queries W` with `W = (X' X + strength I)^-1 X' Y`, in closed form: ridge regression to one-hot labels.

  The system solved is of the smaller of `s` and `d`, by Woodbury's identity `W = X' (X X' + strength I)^-1 Y`.

  Args:
    support: `X`, `[s, d]`.
    labels: `Y`, one-hot `[s, ways]`; all-zero rows weigh nothing and a way without rows gets the logit -1e9.
    queries: `[n, d]`.
    strength: of the penalty, above 0.

  Returns:
    `[n, ways]`, in 32 bits at least.

  Raises:
    ValueError: if `strength` is not above 0.
  """
  if not isinstance(strength, jax.core.Tracer) and not strength > 0:
    raise ValueError(f"expected a strength above 0, got {strength}")
  product = lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
  wide = lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))  # solvers have no narrower types
  support, labels, queries = wide(support), wide(labels), wide(queries)
  known = jnp.where(labels.any(-1, keepdims=True), support, 0)
  rows, width = known.shape
  regular = lambda gram: gram + strength * jnp.eye(len(gram), dtype=gram.dtype)
  if rows <= width:
    weights = product(known.T, jnp.linalg.solve(regular(product(known, known.T)), labels))
  else:
    weights = jnp.linalg.solve(regular(product(known.T, known)), product(known.T, labels))
  return _without_empty_ways(product(queries, weights), labels)


def centroid_logits(support: Array, labels: Array, queries: Array) -> Array:
  """`-|query - centroid_k|^2`, where `centroid_k` is the mean of the support embeddings of way `k`.

  Args:
    support: `[s, d]`.
    labels: one-hot `[s, ways]`; all-zero rows weigh nothing and a way without rows gets the logit -1e9.
    queries: `[n, d]`.

  Returns:
    `[n, ways]`.
  """
  counts = labels.sum(0)
  centroids = jnp.matmul(labels.T, support, precision=lax.Precision.HIGHEST) / jnp.maximum(counts, 1)[:, None]
  return _without_empty_ways(-squared_distances(queries, centroids), labels)


def squared_distances(first: Array, second: Array) -> Array:
  """`|first_i - second_j|^2`: `[n, d], [m, d] -> [n, m]`, without an array of size `n m d`.

  Both are centred first, since `|a|^2 + |b|^2 - 2 a b` loses digits where the common offset is large.
  """
  offset = lax.stop_gradient(second.mean(0))
  first, second = first - offset, second - offset
  products = jnp.matmul(first, second.T, precision=lax.Precision.HIGHEST)
  return jnp.square(first).sum(-1)[:, None] + jnp.square(second).sum(-1)[None] - 2 * products


def _without_empty_ways(logits, labels):
  return jnp.where(labels.any(0), logits, max(EMPTY_WAY, float(jnp.finfo(logits.dtype).min)))
