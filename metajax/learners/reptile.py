"""Reptile (Nichol, Achiam and Schulman 2018, arXiv:1803.02999)."""

import numbers

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from metajax.learners._adaptation import QueryNorm, check_path, fine_tune, inner_problem, of_whole_network, step_keys
from metajax.learners._checks import check_adapt
from metajax.learners._episodes import mean_over_episodes, weight_of
from metajax.losses import cross_entropy
from metajax.types import Adapt, Array, Examples, InitHead, Key, Learner, LossOfOutputs, Network


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
  """Moves an initialization towards what `adapt` makes of it on each task: the gradient of the loss is exactly

      mean_tasks (params - adapt(params, task's examples))

  (through `init_head`, where there is one), so that the outer optimizer `optax.sgd(e)` is the paper's
  `params <- params + e (adapted - params)`. A task's examples are its support and its query alike; nothing is
  differentiated through the inner loop. The loss's value is the mean of the inner loop's losses.

  Args:
    network: inputs `[n, ...]` to logits `[n, ways]`, or to `[n, outputs]` for a regression.
    adapt: the inner loop, e.g. `gradient_steps(optax.adam(1e-3, b1=0), 5, gradient="first_order")`.
    minibatches: `(steps, rows)`: each step sees `rows` of the task's examples, which are gone through in a random order
      again and again, as in the paper; `adapt` then takes `per_step` data. None: each step sees all examples.
    loss: of the inner loop, `(outputs, labels) -> scalar`.
    encoder: where `network` is `with_head(encoder, head)`, for `embed`, as in `maml`.
    query_norm: what batch norm normalizes the queries of a test task with, as in `maml`.
    init_head: `(params, labels) -> params` from which a task is adapted, as in `maml`.
    chunk_size: how many tasks run as one vectorized group.

  Raises:
    TypeError: as `maml`.
    ValueError: if `query_norm` is unknown or `minibatches` are not at least (1, 1); at init, if the network's outputs
      do not fit the labels or labels are not one-hot.
  """
  check_adapt(adapt)
  _check_minibatches(minibatches)
  init, embed = of_whole_network(network, (loss, loss), encoder, query_norm, init_head)

  def cut(key):
    return adapt if minibatches is None else _on_minibatches(adapt, minibatches, key)

  def task_loss(params, state, task):
    episode, key = task
    cut_key, key = jax.random.split(key)
    value, rest = _towards_adapted(network, cut(cut_key), loss, init_head, params, state, episode, key)
    return value, (rest, weight_of(episode.query, loss is cross_entropy))

  def predict(params, state, support, inputs):
    return fine_tune(network, cut(jax.random.key(0)), loss, query_norm, init_head)(params, state, support, inputs)[0]

  return Learner(init, mean_over_episodes(task_loss, chunk_size), embed, predict)


def draw_minibatches(key: Key, examples: Examples, steps: int, rows: int) -> Examples:
  """`rows` of the examples for each of `steps` steps: the examples in a random order, then in another, and so on.

  Args:
    key: of the orders.
    examples: `[n, ...]`.
    steps, rows: how many mini-batches, and of how many examples. A mini-batch may span two orders.

  Returns:
    Examples `[steps, rows, ...]`.
  """
  number = len(examples.labels)
  orders: Array = jax.vmap(lambda k: jax.random.permutation(k, number))(
    jax.random.split(key, -(-steps * rows // number))
  )
  chosen = orders.reshape(-1)[: steps * rows].reshape(steps, rows)
  return jax.tree.map(lambda x: x[chosen], examples)


def _towards_adapted(network, adapt, loss, init_head, params, state, episode, key):
  """`(surrogate, (state, metrics))` of a task: the surrogate's derivative is start - adapted."""
  examples = jax.tree.map(lambda s, q: jnp.concatenate([s, q]), *episode)
  first = init_head(params, examples.labels)
  fixed = lax.stop_gradient(first)
  support_loss, data = inner_problem(network, loss, state, examples, key)
  adapted, path = adapt(support_loss, fixed, data)
  check_path(path)
  moved = jax.tree.map(lambda p, a: lax.stop_gradient(p - a), fixed, adapted)
  # Worth zero, with the derivative `moved`.
  pull = optax.tree.vdot(jax.tree.map(jnp.subtract, first, fixed), moved)
  if jax.tree.leaves(state):  # running statistics, for an embedding that has them
    state = network.apply(fixed, state, examples.inputs, train=True)[1]
  return lax.stop_gradient(jnp.mean(path)) + pull, (state, {"first_loss": path[0], "last_loss": path[-1]})


def _on_minibatches(adapt: Adapt, minibatches: tuple[int, int], key: Key) -> Adapt:
  """`adapt`, shown mini-batches of the data that it is given."""

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
