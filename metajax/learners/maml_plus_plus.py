"""How to train your MAML: MAML++ (Antoniou et al. 2019, arXiv:1810.09502)."""

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
from metajax.learners._adaptation import QueryNorm, QueryPass, of_whole_network, query_pass, step_keys
from metajax.learners._episodes import mean_over_episodes, of_task
from metajax.losses import cross_entropy
from metajax.types import Array, BatchLoss, InitHead, Learner, LossOfOutputs, Network, Params

LEAST = 0.03  # of 1 / steps: what the loss after a step that is not the last comes to weigh


def normalizations(params: Params) -> Any:
  """Which parameters are a normalization's, a tree of bools: those of a part that has a "scale"."""
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
  """MAML with what makes it stable, and quick to learn:

      minimize over (theta, alpha, beta)  mean_tasks sum_i w_i L_query(theta_i, beta_i)
      theta_i = theta_(i-1) - alpha_i * grad L_support(theta_(i-1), beta_i),   i = 1 ... steps

  - A rate `alpha` for each array of parameters and each step, learned.
  - Normalization of its own for each step: scales and shifts `beta_i` that are learned and not adapted, and running
    statistics in the state.
  - The loss after every step counts, at first alike, in the end the last one alone: over the first `multi_step_until`
    training steps `w_i` falls from `1 / steps` along a line (not below `0.03 / steps`) and the last grows to the rest.
  - First order for the first `first_order_until` training steps, then second.

  The paper's cosine schedule is the outer optimizer's. Params are `{"network": theta and beta, "rates": alpha}`, where
  leaves of `beta` and `alpha` have a leading axis `[steps]`; the state counts the training steps. Another number of
  steps at test time: the same factory with other `steps`, the same params; steps beyond those that were learned take
  the last one's rates and normalization. Where several seeds are trained side by side (`fit(seed=(0, 1))`) every step
  computes all phases, as each seed has a count of its own.

  Args:
    network: as for `maml`.
    steps: of the inner loop.
    learning_rate: where the rates start, of the mean loss.
    multi_step_until: training steps in which the loss of all inner steps counts; 0: only the last one's ever does. 10
      epochs of 500 steps in the paper.
    first_order_until: training steps of first order; 50 of 150 such epochs in the paper.
    per_step: `params -> tree of bools`: which are each step's own, and not adapted.
    gradient: of what comes after, as for `gradient_steps`.
    loss, inner_loss, encoder, query_norm, init_head, chunk_size: as for `maml`. `embed` has the normalization of the
      last step.

  Raises:
    ValueError: if `learning_rate` is not above 0 or a number of training steps below 0, or an argument is as `maml` or
      `gradient_steps` refuses it; at init, if no parameter is adapted.
  """
  _check(learning_rate, steps, gradient, multi_step_until=multi_step_until, first_order_until=first_order_until)
  inner = loss if inner_loss is None else inner_loss
  init, embed = of_whole_network(network, (loss, inner), encoder, query_norm, init_head)
  method = _Method(network, steps, per_step, inner, init_head, query_pass(network, query_norm))
  loss_of_batch = _loss_in_phases(method, loss, multi_step_until, first_order_until, gradient, chunk_size)

  def predict(params, state, support, inputs):
    return _outputs(method, params, state, support, inputs, None, gradient, every=False)[0][-1]

  own_init, own_embed = functools.partial(_init, method, init, learning_rate), functools.partial(_embed, method, embed)
  return Learner(own_init, loss_of_batch, own_embed, predict)


def multi_step_weights(steps: int, training_steps: Array, until: int) -> Array:
  """What the loss after each inner step weighs, `[steps]`, their sum 1: alike at 0, the last one alone at `until`.

  All but the last are `max(1 - training_steps / until, 0.03) / steps`.
  """
  before = jnp.maximum(1 - training_steps / until, LEAST) / steps
  return jnp.full(steps, before).at[-1].set(1 - before * (steps - 1))


class _Method(NamedTuple):
  """What a task is learned with: arguments of `maml_plus_plus`, and the pass over the queries."""

  network: Network
  steps: int
  per_step: Callable[[Params], Any]
  inner_loss: LossOfOutputs
  init_head: InitHead
  answer: QueryPass


def _init(method, init_network, learning_rate, key, episodes):
  """The network's own, what is each step's own for each, and rates that are all alike."""
  params, state = init_network(key, episodes)
  fast, own = _apart(params, method.per_step)
  if not jax.tree.leaves(fast):
    raise ValueError("expected parameters that adapt, got a per_step that takes all of them")

  def each(tree):
    return jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x)[None], method.steps, 0), tree)

  rates = jax.tree.map(lambda x: jnp.full(method.steps, learning_rate, x.dtype), fast)
  counted = {"network": each(state), "training_steps": jnp.zeros((), jnp.int32)}
  return {"network": _whole(fast, each(own)), "rates": rates}, counted


def _tuned(method, params, state, support, key, gradient):
  """The parameters after each step, `[steps, ...]`, each with its own normalization; and the state to go with it."""
  network, steps = method.network, method.steps
  fast, own = _apart(method.init_head(params["network"], support.labels), method.per_step)
  which = np.minimum(np.arange(steps), jax.tree.leaves(params["rates"])[0].shape[0] - 1)
  rates, own, state = jax.tree.map(lambda x: x[which], (params["rates"], own, state["network"]))

  def support_loss(fast, at):
    own, state, _, key = at
    outputs, _ = network.apply(_whole(fast, own), state, support.inputs, train=True, key=key)
    return method.inner_loss(outputs, support.labels)

  adapt = gradient_steps(_by_step(rates), steps, gradient=gradient, per_step=True, trajectory=True)
  return _whole(adapt(support_loss, fast, (own, state, which, step_keys(key, steps)))[1], own), state, which


def _outputs(method, params, state, support, queries, key, gradient, every):
  """Outputs after all steps, or after the last, `[steps or 1, n, ...]`, and the state."""
  support_key, query_key = split(key, 2)
  path, states, which = _tuned(method, params, state, support, support_key, gradient)

  def after(params, state, key):
    return method.answer(params, state, support.inputs, queries, key)

  each = (path, states, step_keys(query_key, method.steps))
  if every:
    # One after the other, and again in the backward pass: memory does not grow with the steps.
    outputs, states = lax.map(lambda one: jax.checkpoint(after, prevent_cse=False)(*one), each)
  else:
    which = which[-1:]
    outputs, states = jax.tree.map(lambda x: x[None], after(*jax.tree.map(lambda x: x[-1], each)))
  written = jax.tree.map(lambda old, new: old.at[which].set(new), state["network"], states)
  return outputs, {"network": written, "training_steps": state["training_steps"] + 1}


def _loss_in_phases(method, loss, multi_step_until, first_order_until, gradient, chunk_size) -> BatchLoss:
  """The mean over tasks, whose steps count and are differentiated as the training step says."""
  begins = sorted({0, multi_step_until, first_order_until})

  def phase(began):
    """In the training steps from `began` on, in which all is alike, up to the next phase."""
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


def _embed(method, embed_network, params, state, inputs):
  """With the last step's normalization, whose statistics are kept up in all phases."""
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
  gradient_steps(optax.sgd(learning_rate), steps, gradient=gradient)  # looks at them


def _by_step(rates) -> optax.GradientTransformation:
  """Gradient descent by a rate for each array and step, `[steps]` each."""

  def update(updates, state, params=None):
    return jax.tree.map(lambda alpha, slope: -alpha[state] * slope, rates, updates), state + 1

  return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def _apart(params, chosen):
  """The parameters that are not chosen, and those that are; each None where the other has some."""

  def pick(own):
    return jax.tree.map(lambda x, is_chosen: x if is_chosen == own else None, params, chosen(params))

  return pick(False), pick(True)


def _whole(fast, own):
  """Of two such trees the one that they were."""
  return jax.tree.map(lambda a, b: b if a is None else a, fast, own, is_leaf=lambda x: x is None)
