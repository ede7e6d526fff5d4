"""How to train your MAML: MAML++ (Antoniou et al. 2019, arXiv:1810.09502).

MAML with four changes that make it stable and fast to train:

- Each array of parameters has a learned learning rate `alpha_i` for each inner step.
- Each inner step has separate normalization: scales and shifts `beta_i`, which are learned but not adapted, and running
  statistics in the state.
- The query loss after every inner step counts, with weight `w_i`. Over the first `multi_step_until` training steps the
  weights of all inner steps but the last decrease linearly from `1 / steps`, to at least `0.03 / steps`; the last step
  has the remaining weight. Afterwards only the last step counts.
- The first `first_order_until` training steps are first order, later ones second order.

Params are `{"network": theta and beta, "rates": alpha}`; leaves of `beta` and `alpha` have a leading axis `[steps]`.
The state counts the training steps. At test time, steps beyond the trained number use the rates and the normalization
of the last trained step. With several seeds in parallel (`fit(seed=(0, 1))`) every step computes all phases, since each
seed has a separate count.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from metajax import checks
from metajax.adapt import Gradient, gradient_steps
from metajax.compose.combinators import split
from metajax.learners._adaptation import QueryNorm, QueryPass, mask_ways, of_whole_network, query_pass, step_keys
from metajax.learners._episodes import mean_over_episodes, of_task
from metajax.losses import cross_entropy
from metajax.types import Array, BatchLoss, InitHead, Learner, LossOfOutputs, Network, Params

LEAST = 0.03  # final weight of each loss but the last, as a fraction of 1 / steps


def normalizations(params: Params) -> Any:
  """Marks the parameters of normalizations, as a tree of bools: those of a dictionary with a "scale"."""
  if isinstance(params, dict) and "scale" not in params:
    return {name: normalizations(part) for name, part in params.items()}
  return jax.tree.map(lambda x: isinstance(params, dict), params)


def maml_plus_plus(
  network: Network,
  steps: int = 5,
  *,
  learning_rate: float = 0.1,
  multi_step_until: int = 5000,
  first_order_until: int = 0,
  per_step: Callable[[Params], Any] = normalizations,
  gradient: Gradient = "mixed",
  loss: LossOfOutputs = cross_entropy,
  inner_loss: LossOfOutputs | None = None,
  encoder: Network | None = None,
  query_norm: QueryNorm = "transductive",
  init_head: InitHead = lambda params, labels: params,
  chunk_size: int | None = None,
) -> Learner:
  """MAML++: MAML with learned per-step rates, per-step normalization and a multi-step loss (arXiv:1810.09502).

      minimize over (theta, alpha, beta)  mean_tasks sum_i w_i L_query(theta_i, beta_i)
      theta_i = theta_(i-1) - alpha_i * grad L_support(theta_(i-1), beta_i),   i = 1 ... steps

  The module docstring describes `w_i`, params and state. For another number of steps at test time, call the factory
  with other `steps` and keep the params. The paper's cosine schedule belongs to the outer optimizer.

  Args:
    steps: Number of inner steps.
    learning_rate: Initial value of all rates, for the mean loss.
    multi_step_until: Number of training steps with the multi-step loss, in the paper 10 epochs of 500 steps. With 0 the
      loss of the last inner step alone counts.
    first_order_until: Number of training steps of first order, in the paper 50 of 150 such epochs.
    per_step: Function `params -> tree of bools` that marks parameters with one value per step, which are not adapted.
    gradient: Derivative of the inner gradients after the first-order phase, as for `gradient_steps`.
    network, loss, inner_loss, encoder, query_norm, init_head, chunk_size: As for `maml`; `embed` uses the normalization
      of the last step.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns outputs `[n, ways]`.

  Raises:
    TypeError, ValueError: As `maml` and `gradient_steps`, or if a number is out of range; at init, if nothing adapts.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Episode, Examples, learners, networks
    >>> learner = learners.maml_plus_plus(networks.mlp((4,), 3), steps=5)
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  _check(learning_rate, steps, gradient, multi_step_until=multi_step_until, first_order_until=first_order_until)
  inner = loss if inner_loss is None else inner_loss
  init, embed = of_whole_network(network, (loss, inner), encoder, query_norm, init_head)
  method = _Method(network, steps, per_step, inner, init_head, query_pass(network, query_norm), loss)
  loss_of_batch = _loss_in_phases(method, loss, multi_step_until, first_order_until, gradient, chunk_size)
  own_init, own_embed = functools.partial(_init, method, init, learning_rate), functools.partial(_embed, method, embed)
  return Learner(own_init, loss_of_batch, own_embed, functools.partial(_predict, method, gradient))


def multi_step_weights(steps: int, training_steps: Array, until: int) -> Array:
  """Weights of the losses after each inner step, `[steps]`, with sum 1: equal at 0, the last alone from `until` on.

  All but the last are `max(1 - training_steps / until, 0.03) / steps`.
  """
  before = jnp.maximum(1 - training_steps / until, LEAST) / steps
  return jnp.full(steps, before).at[-1].set(1 - before * (steps - 1))


class _Method(NamedTuple):
  """The per-task arguments of `maml_plus_plus`, and the query pass."""

  network: Network
  steps: int
  per_step: Callable[[Params], Any]
  inner_loss: LossOfOutputs
  init_head: InitHead
  answer: QueryPass
  loss: LossOfOutputs


def _init(method, init_network, learning_rate, key, episodes):
  """The network's params and state, with one copy of per-step values for each step, and equal rates."""
  params, state = init_network(key, episodes)
  fast, own = _apart(params, method.per_step)
  if not jax.tree.leaves(fast):
    raise ValueError("expected parameters that adapt, got a per_step that marks all of them")

  def each(tree):
    return jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x)[None], method.steps, 0), tree)

  rates = jax.tree.map(lambda x: jnp.full(method.steps, learning_rate, x.dtype), fast)
  counted = {"network": each(state), "training_steps": jnp.zeros((), jnp.int32)}
  return {"network": _whole(fast, each(own)), "rates": rates}, counted


def _tuned(method, params, state, support, key, gradient):
  """The parameters after each step, `[steps, ...]`, with its normalization; the state of each step; step indices."""
  network, steps = method.network, method.steps
  fast, own = _apart(method.init_head(params["network"], support.labels), method.per_step)
  which = np.minimum(np.arange(steps), jax.tree.leaves(params["rates"])[0].shape[0] - 1)
  rates, own, state = jax.tree.map(lambda x: x[which], (params["rates"], own, state["network"]))

  masked = mask_ways(method.inner_loss, support)

  def support_loss(fast, at):
    own, state, _, key = at
    outputs, _ = network.apply(_whole(fast, own), state, support.inputs, train=True, key=key)
    return method.inner_loss(masked(outputs), support.labels)

  adapt = gradient_steps(_by_step(rates), steps, gradient=gradient, per_step=True, trajectory=True)
  return _whole(adapt(support_loss, fast, (own, state, which, step_keys(key, steps)))[1], own), state, which


def _outputs(method, params, state, support, queries, key, gradient, every):
  """Query outputs after all steps, or after the last, `[steps or 1, n, ...]`, and the new state."""
  support_key, query_key = split(key, 2)
  path, states, which = _tuned(method, params, state, support, support_key, gradient)

  def after(params, state, key):
    outputs, state = method.answer(params, state, support.inputs, queries, key)
    return mask_ways(method.loss, support)(outputs), state

  each = (path, states, step_keys(query_key, method.steps))
  if every:
    # Sequential, and recomputed in the backward pass: memory does not grow with the steps.
    outputs, states = lax.map(lambda one: jax.checkpoint(after, prevent_cse=False)(*one), each)
  else:
    which = which[-1:]
    outputs, states = jax.tree.map(lambda x: x[None], after(*jax.tree.map(lambda x: x[-1], each)))
  written = jax.tree.map(lambda old, new: old.at[which].set(new), state["network"], states)
  return outputs, {"network": written, "training_steps": state["training_steps"] + 1}


def _loss_in_phases(method, loss, multi_step_until, first_order_until, gradient, chunk_size) -> BatchLoss:
  """The mean loss over tasks; the training step selects the losses that count and the order of the gradient."""
  begins = sorted({0, multi_step_until, first_order_until})

  def phase(began):
    """The loss in the phase that starts at training step `began`."""
    every, order = began < multi_step_until, "first_order" if began < first_order_until else gradient

    def task_loss(params, state, task):
      (support, query), key = task
      now = state["training_steps"]
      outputs, state = _outputs(method, params, state, support, query.inputs, key, order, every)
      losses = jax.vmap(loss, (0, None))(outputs, query.labels)
      weights = multi_step_weights(method.steps, now, multi_step_until) if every else jnp.ones(1)
      value = losses @ weights.astype(losses.dtype)
      return of_task(value, outputs[-1], query, state, {}, loss is cross_entropy)

    return mean_over_episodes(task_loss, chunk_size)

  phases = [phase(began) for began in begins]

  def batch_loss(params, state, episodes, key):
    at = jnp.searchsorted(jnp.array(begins), state["training_steps"], side="right") - 1
    return lax.switch(at, phases, params, state, episodes, key)

  return batch_loss


def _predict(method, gradient, params, state, support, inputs):
  """The outputs after the last step."""
  return _outputs(method, params, state, support, inputs, None, gradient, every=False)[0][-1]


def _embed(method, embed_network, params, state, inputs):
  """Embeds with the normalization of the last step, whose statistics are updated in all phases."""
  fast, own = _apart(params["network"], method.per_step)
  own, state = jax.tree.map(lambda x: x[-1], (own, state["network"]))
  return embed_network(_whole(fast, own), state, inputs)


def _check(learning_rate, steps, gradient, **counts):
  checks.scalar("a learning_rate", learning_rate)
  if not 0 < learning_rate < np.inf:
    raise ValueError(f"expected a learning_rate above 0, got {learning_rate}")
  for name, count in counts.items():
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**31:
      raise ValueError(f"expected {name} to be a whole number of at least 0, below 2**31, got {count!r}")
  gradient_steps(optax.sgd(learning_rate), steps, gradient=gradient)  # checks its arguments


def _by_step(rates) -> optax.GradientTransformation:
  """Gradient descent with a rate per array and step, `[steps]` each."""

  def update(updates, state, params=None):
    return jax.tree.map(lambda alpha, slope: -alpha[state] * slope, rates, updates), state + 1

  return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def _apart(params, chosen):
  """Splits a tree into the leaves that are not chosen and those that are; each has None in place of the other's."""

  def pick(own):
    return jax.tree.map(lambda x, is_chosen: x if is_chosen == own else None, params, chosen(params))

  return pick(False), pick(True)


def _whole(fast, own):
  """Merges two complementary trees."""
  return jax.tree.map(lambda a, b: b if a is None else a, fast, own, is_leaf=lambda x: x is None)
