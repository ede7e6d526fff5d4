"""Meta-SGD: a learned rate for each parameter (Li et al. 2017, arXiv:1707.09835)."""

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
  """Learns an initialization, and for each of its parameters a rate, from which gradient steps learn a new task:

      minimize over (theta, alpha)  mean_tasks loss(theta - alpha * grad L_support(theta))    (one step; * by element)

  Rates may become negative: they are directions as much as lengths. The params are `{"network": theta, "rates":
  alpha}`, of one shape. Another number of steps at test time: the same factory with other `steps`, the same params.

  Args:
    network: as for `maml`.
    steps: of the inner loop, each by the same rates.
    learning_rate: what rates start at, of the mean loss: each drawn uniformly from the first to the second, or all the
      same.
    gradient: as for `gradient_steps`.
    loss, inner_loss, encoder, query_norm, chunk_size: as for `maml`.
    init_head: `(params, support labels) -> params` from which a task is adapted, as for `maml`. Where it widens a head,
      outputs beyond take the rates of those that are there, again and again.

  Raises:
    ValueError: if `learning_rate` is not above 0, or an argument is as `maml` or `gradient_steps` refuses it.
  """
  low, high = _bounds(learning_rate)
  inner = loss if inner_loss is None else inner_loss
  gradient_steps(optax.sgd(low), steps, gradient=gradient)  # looks at them
  init_network, embed_network = of_whole_network(network, (loss, inner), encoder, query_norm, init_head)

  def answer(params, state, support, queries, key=None):
    adapt = gradient_steps(_by_rates(params["rates"]), steps, gradient=gradient)
    return fine_tune(network, adapt, inner, query_norm, init_head)(params["network"], state, support, queries, key)

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
  """A rate for each parameter, drawn uniformly."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(key, len(leaves))
  return structure.unflatten(
    [jax.random.uniform(k, x.shape, x.dtype, low, high) for k, x in zip(keys, leaves, strict=True)]
  )


def _by_rates(rates: Params) -> optax.GradientTransformation:
  """Gradient descent by a rate for each parameter."""

  def update(updates, state, params=None):
    return jax.tree.map(lambda alpha, slope: -_as_wide(alpha, slope) * slope, rates, updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _as_wide(alpha: Array, slope: Array) -> Array:
  """Rates for as many outputs as there are, of as many as were learned."""
  if alpha.shape == slope.shape:
    return alpha
  return alpha[..., jnp.arange(slope.shape[-1]) % alpha.shape[-1]]
