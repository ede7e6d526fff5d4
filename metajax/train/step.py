"""The TrainState and the train step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from metajax import checks
from metajax.checks import is_concrete
from metajax.mesh import device_count, gather_params, keep_sharded, replicate, scatter_gradient, shard_parameters
from metajax.pixels import images_to_float
from metajax.train.given import check_learner, check_optimizer, seeds_in
from metajax.tree import is_key, leading_axis, size_text, value_text, wide
from metajax.types import Key, Learner, Params, State


class TrainState(NamedTuple):
  """The complete state of a training run at a step.

  Attributes:
    params: Learned parameters.
    state: State of the learner (running statistics).
    optimizer_state: State of the outer optimizer.
    key: PRNG key of the run; step `i` uses `fold_in(key, i)`.
    step: Number of completed steps, int32.
  """

  params: Params
  state: State
  optimizer_state: Any
  key: Key
  step: jax.Array

  def __repr__(self) -> str:
    """The step and the sizes of the parts: `TrainState(step=1000, params=<12 arrays, 113,088 numbers>, ...)`."""
    parts = ("params", "state", "optimizer_state")
    sizes = ", ".join(f"{name}=<{size_text(getattr(self, name))}>" for name in parts)
    return f"TrainState(step={value_text(self.step)}, {sizes})"


def make_train_step(learner: Learner, optimizer: optax.GradientTransformation, accumulate: int = 1) -> Callable:
  """Makes the train step, one step of the outer optimizer; the caller jits it.

  Args:
    learner: Learner to train.
    optimizer: Outer optimizer.
    accumulate: Parts that a batch is divided into, one computed after the other; the gradient is their mean. It is that
      of the batch if the loss is a mean over rows, as over tasks, and not if rows meet, as in contrastive losses.
      Statistics of batch norm are those of each part.

  Returns:
    `(train_state, batch) -> (train_state, metrics)`. The metrics are the learner's, plus "loss" and "grad_norm", which
    has at least 32 bits.

  Raises:
    TypeError: if `learner` is not a Learner, or `optimizer` is not an optax optimizer.
    ValueError: if `accumulate` is not at least 1; when called, if the parts, or the devices that share each, do not
      divide the batch.
  """
  check_learner(learner)
  check_optimizer(optimizer)
  checks.count("accumulate", accumulate)
  differentiate = jax.value_and_grad(learner.loss, has_aux=True)

  def train_step(train_state, batch):
    key = jax.random.fold_in(train_state.key, train_state.step)
    whole = gather_params(train_state.params)
    if accumulate == 1:
      (loss, (state, metrics)), gradient = differentiate(whole, train_state.state, images_to_float(batch), key)
      gradient = scatter_gradient(gradient)
    else:
      (loss, (state, metrics)), gradient = _mean_of_parts(
        differentiate, accumulate, whole, train_state.state, batch, key
      )
    updates, optimizer_state = optimizer.update(gradient, train_state.optimizer_state, train_state.params)
    params, optimizer_state = keep_sharded((optax.apply_updates(train_state.params, updates), optimizer_state))
    metrics = {**metrics, "loss": loss, "grad_norm": _norm(gradient)}
    return TrainState(params, state, optimizer_state, train_state.key, train_state.step + 1), metrics

  return train_step


def _mean_of_parts(differentiate, parts, params, state, batch, key):
  """Values, metrics and gradient as means over parts of a batch; the state goes from part to part.

  Part `i` holds the rows `i`, `i + parts`, ..., so that every device has its share of each.
  """
  rows = leading_axis(batch)
  if rows % (parts * device_count()):
    shared = f" shared by {device_count()} devices" * (device_count() > 1)
    raise ValueError(f"expected a batch that divides into {parts} parts{shared}, got {rows} rows")
  batch = jax.tree.map(lambda x: x.reshape(rows // parts, parts, *x.shape[1:]), batch)

  def of(state, i):
    part = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 1, keepdims=False), batch)
    (loss, (state, metrics)), gradient = differentiate(params, state, images_to_float(part), jax.random.fold_in(key, i))
    return (loss, metrics, jax.tree.map(wide, scatter_gradient(gradient))), state

  def add(carried, i):
    sums, state = carried
    found, state = of(state, i)
    return (jax.tree.map(jnp.add, sums, found), state), None

  (sums, state), _ = lax.scan(add, of(state, 0), jnp.arange(1, parts))
  loss, metrics, gradient = jax.tree.map(lambda x: x / parts, sums)
  return (loss, (state, metrics)), jax.tree.map(lambda x, like: x.astype(like.dtype), gradient, params)


def _norm(gradient) -> jax.Array:
  """Returns the global gradient norm, in at least 32 bits: in float16, 4,000 values of 6 would overflow."""
  return optax.tree.norm(jax.tree.map(wide, gradient))


def start(learner: Learner, optimizer: optax.GradientTransformation, batch: Any, seed: int = 0) -> TrainState:
  """Initializes the TrainState, placed on the mesh.

  Args:
    learner: Learner to train.
    optimizer: Outer optimizer.
    batch: Host-local example batch.
    seed: Seed of the initialization and of the run's key.

  Returns:
    The TrainState before the first step.

  Raises:
    TypeError: if `learner` is not a Learner, or `optimizer` is not an optax optimizer.
  """
  check_learner(learner)
  check_optimizer(optimizer)
  key, run_key = jax.random.split(jax.random.key(seed))
  params, state = learner.init(key, images_to_float(batch))
  made = TrainState(params, state, optimizer.init(params), run_key, jnp.zeros((), jnp.int32))
  made = jax.tree.map(_copy, made)  # the train step donates its buffers, so none may be shared
  params, optimizer_state = shard_parameters((made.params, made.optimizer_state))
  return replicate(made)._replace(params=params, optimizer_state=optimizer_state)


def _copy(x):
  """Copies by `device_put`, which compiles nothing; traced values, keys and multi-host arrays need `jnp.copy`."""
  x = jnp.asarray(x)
  return jax.device_put(x, may_alias=False) if is_concrete(x) and not is_key(x) else jnp.copy(x)


def each_seed(train_state: TrainState, seed: int | Sequence[int]) -> list[TrainState]:
  """Splits the TrainState of a run into one per seed; a run of a single seed gives a list of one."""
  if np.ndim(seed) == 0:
    return [train_state]
  return [jax.tree.map(lambda x, i=i: x[i], train_state) for i in range(len(seeds_in(seed)))]
