"""Reptile (Nichol, Achiam and Schulman 2018, arXiv:1803.02999)."""

import functools
import numbers
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from metajax.learners._adaptation import QueryNorm, check_path, fine_tune, inner_problem, of_whole_network, step_keys
from metajax.learners._checks import check_adapt
from metajax.learners._episodes import mean_over_episodes, weight_of
from metajax.losses import cross_entropy
from metajax.types import Adapt, Array, Examples, InitHead, Key, Learner, LossOfOutputs, Network, Padded


def reptile(
  network: Network,
  adapt: Adapt,
  *,
  minibatches: tuple[int, int] | None = None,
  loss: LossOfOutputs = cross_entropy,
  encoder: Network | None = None,
  query_norm: QueryNorm = "transductive",
  init_head: InitHead = lambda params, labels: params,
  chunk_size: int | None = None,
) -> Learner:
  """Reptile: moves an initialization toward the params that `adapt` reaches on each task (arXiv:1803.02999).

      gradient of the loss = mean_tasks (params - adapt(params, task's examples))    (through `init_head`, if any)

  With the outer optimizer `optax.sgd(e)` this is the paper's `params <- params + e (adapted - params)`. A task's
  examples are its support and query sets together; no gradient passes through the inner loop. The value of the loss is
  the mean of the inner loop's losses.

  Args:
    network: Inputs `[n, ...]` to logits `[n, ways]`, or to `[n, outputs]` for regression.
    adapt: Inner loop, e.g. `gradient_steps(optax.adam(1e-3, b1=0), 5, gradient="first_order")`.
    minibatches: Numbers `(steps, rows)`: each step sees `rows` of the task's examples, in repeated random order as in
      the paper, and `adapt` takes `per_step` data. None: each step sees all examples.
    loss: Loss of the inner loop, `(outputs, labels) -> scalar`.
    encoder, query_norm, init_head, chunk_size: As for `maml`; `query_norm` applies to test tasks only.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns outputs `[n, ways]`.

  Raises:
    TypeError, ValueError: As `maml`, or if `minibatches` are not at least (1, 1); at init, if they are given and rows
      are padded.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from metajax import Episode, Examples, gradient_steps, learners, networks
    >>> learner = learners.reptile(networks.mlp((4,), 3), gradient_steps(optax.sgd(0.1), 5, gradient="first_order"))
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  check_adapt(adapt)
  _check_minibatches(minibatches)
  init_network, embed = of_whole_network(network, (loss, loss), encoder, query_norm, init_head)
  cut = functools.partial(_on_minibatches, adapt, minibatches)

  def task_loss(params, state, task):
    episode, key = task
    cut_key, key = jax.random.split(key)
    value, rest = _towards_adapted(network, cut(cut_key), loss, init_head, params, state, episode, key)
    return value, (rest, weight_of(episode.query, loss is cross_entropy))

  def predict(params, state, support, inputs):
    tune = fine_tune(network, cut(jax.random.key(0)), loss, query_norm, init_head, loss)
    return tune(params, state, support, inputs)[0]

  init = functools.partial(_init, init_network, minibatches)
  return Learner(init, mean_over_episodes(task_loss, chunk_size), embed, predict)


def _init(init_network, minibatches, key, episodes):
  if minibatches is not None and isinstance(episodes.support.inputs, Padded):
    raise ValueError("expected no padded rows with minibatches, which would draw them, got Padded inputs")
  return init_network(key, episodes)


def draw_minibatches(key: Key, examples: Examples, steps: int, rows: int) -> Examples:
  """Draws mini-batches from the examples in one random order after another.

  Args:
    key: Key of the orders.
    examples: Examples `[n, ...]`.
    steps, rows: Number of mini-batches and examples in each. A mini-batch may span two orders.

  Returns:
    Examples `[steps, rows, ...]`.
  """
  number = examples.labels.shape[0]
  symbolic = jax.export.is_symbolic_dim(number)  # while a learner is exported
  permutation = _symbolic_permutation if symbolic else jax.random.permutation
  orders: Array = jax.vmap(lambda k: permutation(k, number))(
    jax.random.split(key, steps * rows if symbolic else -(-steps * rows // number))
  )
  chosen = orders.reshape(-1)[: steps * rows].reshape(steps, rows)
  return jax.tree.map(lambda x: x[chosen], examples)


def _symbolic_permutation(key: Key, number: Any) -> Array:
  """The order of `jax.random.permutation`, which needs to know the number; equal to it up to 1,625 rows."""
  bits = jax.random.bits(jax.random.split(key)[1], (number,))
  return lax.sort_key_val(bits, jnp.arange(number))[1]


def _towards_adapted(network, adapt, loss, init_head, params, state, episode, key):
  """`(surrogate, (state, metrics))` of a task, where the derivative of the surrogate is start - adapted."""
  examples = jax.tree.map(lambda s, q: jnp.concatenate([s, q]), *episode)
  first = init_head(params, examples.labels)
  fixed = lax.stop_gradient(first)
  support_loss, data = inner_problem(network, loss, state, examples, key)
  adapted, path = adapt(support_loss, fixed, data)
  check_path(path)
  moved = jax.tree.map(lambda p, a: lax.stop_gradient(p - a), fixed, adapted)
  # The value is zero, the derivative `moved`.
  pull = optax.tree.vdot(jax.tree.map(jnp.subtract, first, fixed), moved)
  if jax.tree.leaves(state):  # running statistics, for the embedding
    state = network.apply(fixed, state, examples.inputs, train=True)[1]
  return lax.stop_gradient(jnp.mean(path)) + pull, (state, {"first_loss": path[0], "last_loss": path[-1]})


def _on_minibatches(adapt: Adapt, minibatches: tuple[int, int] | None, key: Key) -> Adapt:
  """An Adapt that runs `adapt` on mini-batches of its data; `adapt` itself for None."""
  if minibatches is None:
    return adapt

  def adapt_on_some(loss, params, data):
    if isinstance(data, Examples):
      return adapt(loss, params, draw_minibatches(key, data, *minibatches))
    examples, noise = data
    return adapt(loss, params, (draw_minibatches(key, examples, *minibatches), step_keys(noise, minibatches[0])))

  return adapt_on_some


def _check_minibatches(minibatches):
  def whole(x):
    return isinstance(x, numbers.Integral) and x >= 1

  if minibatches is not None and not (np.shape(minibatches) == (2,) and all(map(whole, minibatches))):
    raise ValueError(f"expected minibatches (steps, rows), of at least 1 step and 1 row, got {minibatches}")
