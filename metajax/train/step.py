"""The TrainState and the train step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.checks import is_concrete
from metajax.mesh import gather_params, keep_sharded, replicate, shard_parameters
from metajax.pixels import images_to_float
from metajax.train.given import check_learner, check_optimizer, seeds_in
from metajax.tree import is_key, size_text, value_text, wide
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


def make_train_step(learner: Learner, optimizer: optax.GradientTransformation) -> Callable:
  """Makes the train step, one step of the outer optimizer; the caller jits it.

  Args:
    learner: Learner to train.
    optimizer: Outer optimizer.

  Returns:
    `(train_state, batch) -> (train_state, metrics)`. The metrics are the learner's, plus "loss" and "grad_norm", which
    has at least 32 bits.

  Raises:
    TypeError: if `learner` is not a Learner, or `optimizer` is not an optax optimizer.
  """
  check_learner(learner)
  check_optimizer(optimizer)

  def train_step(train_state, batch):
    key = jax.random.fold_in(train_state.key, train_state.step)
    differentiate = jax.value_and_grad(learner.loss, has_aux=True)
    whole = gather_params(train_state.params)
    (loss, (state, metrics)), gradient = differentiate(whole, train_state.state, images_to_float(batch), key)
    gradient = keep_sharded(gradient)
    updates, optimizer_state = optimizer.update(gradient, train_state.optimizer_state, train_state.params)
    params, optimizer_state = keep_sharded((optax.apply_updates(train_state.params, updates), optimizer_state))
    metrics = {**metrics, "loss": loss, "grad_norm": _norm(gradient)}
    return TrainState(params, state, optimizer_state, train_state.key, train_state.step + 1), metrics

  return train_step


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
