"""Meta-SGD: a learned learning rate per parameter (Li et al. 2017, arXiv:1707.09835)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.adapt import Gradient, gradient_steps
from metajax.learners._adaptation import QueryNorm, fine_tune, of_whole_network
from metajax.learners._episodes import episodic_loss, predict_of
from metajax.losses import cross_entropy
from metajax.types import Array, InitHead, Key, Learner, LossOfOutputs, Network, Params


def meta_sgd(
  network: Network,
  steps: int = 1,
  *,
  learning_rate: float | tuple[float, float] = (0.005, 0.1),
  gradient: Gradient = "mixed",
  loss: LossOfOutputs = cross_entropy,
  inner_loss: LossOfOutputs | None = None,
  encoder: Network | None = None,
  query_norm: QueryNorm = "transductive",
  init_head: InitHead = lambda params, labels: params,
  chunk_size: int | None = None,
) -> Learner:
  """Meta-SGD: meta-learns an initialization and a learning rate per parameter (arXiv:1707.09835).

      minimize over (theta, alpha)  mean_tasks loss(theta - alpha * grad L_support(theta))    (one step; * by element)

  Rates may become negative: they set directions as well as lengths. Params are `{"network": theta, "rates": alpha}`, of
  equal shapes. For another number of steps at test time, call the factory with other `steps` and keep the params.

  Args:
    steps: Number of inner steps, all with the same rates.
    learning_rate: Initial rates, for the mean loss: a number, or bounds `(low, high)` of uniform draws.
    gradient: Derivative of the inner gradients, as for `gradient_steps`.
    network, loss, inner_loss, encoder, query_norm, chunk_size: As for `maml`.
    init_head: As for `maml`. Where it widens a head, additional outputs reuse the learned rates cyclically.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns outputs `[n, ways]`.

  Raises:
    TypeError, ValueError: As `maml` and `gradient_steps`, or if `learning_rate` is not above 0.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Episode, Examples, learners, networks
    >>> learner = learners.meta_sgd(networks.mlp((4,), 3), steps=1)
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  (low, high), inner = _bounds(learning_rate), loss if inner_loss is None else inner_loss
  gradient_steps(optax.sgd(low), steps, gradient=gradient)  # checks its arguments
  init_network, embed_network = of_whole_network(network, (loss, inner), encoder, query_norm, init_head)

  def answer(params, state, support, queries, key=None):
    adapt = gradient_steps(_by_rates(params["rates"]), steps, gradient=gradient)
    tune = fine_tune(network, adapt, inner, query_norm, init_head, loss)
    return tune(params["network"], state, support, queries, key)

  def init(key, episodes):
    own, of_rates = jax.random.split(key)
    theta, state = init_network(own, episodes)
    return {"network": theta, "rates": _drawn_rates(of_rates, theta, low, high)}, state

  def embed(params, state, inputs):
    return embed_network(params["network"], state, inputs)

  return Learner(init, episodic_loss(answer, loss, chunk_size), embed, predict_of(answer))


def _bounds(given):
  low, high = given if isinstance(given, tuple) and len(given) == 2 else (given, given)
  if not all(isinstance(x, int | float) for x in (low, high)) or not 0 < low <= high < np.inf:
    raise ValueError(f"expected a learning_rate above 0, or two of them, the lower one first, got {given}")
  return low, high


def _drawn_rates(key: Key, params: Params, low: float, high: float) -> Params:
  """A rate for each parameter, drawn uniformly from `low` to `high`."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(key, len(leaves))
  return structure.unflatten(
    [jax.random.uniform(k, x.shape, x.dtype, low, high) for k, x in zip(keys, leaves, strict=True)]
  )


def _by_rates(rates: Params) -> optax.GradientTransformation:
  """Gradient descent with a rate per parameter."""

  def update(updates, state, params=None):
    return jax.tree.map(lambda alpha, slope: -_as_wide(alpha, slope) * slope, rates, updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _as_wide(alpha: Array, slope: Array) -> Array:
  """Rates repeated cyclically to the width of a widened head."""
  if alpha.shape == slope.shape:
    return alpha
  return alpha[..., jnp.arange(slope.shape[-1]) % alpha.shape[-1]]
