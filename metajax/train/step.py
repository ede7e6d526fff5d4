"""A run's state, and one step of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.checks import is_concrete
from metajax.mesh import gather_params, keep_sharded, replicate, shard_parameters
from metajax.train.given import check_learner, check_optimizer, seeds_in
from metajax.tree import is_key, wide
from metajax.types import Key, Learner, Params, State


class TrainState(NamedTuple):
  """All that a training run is at a step.

  Attributes:
    params: what is learned.
    state: what the learner carries (running statistics).
    optimizer_state: of the outer optimizer.
    key: the run's key; step `i` draws from `fold_in(key, i)`.
    step: how many steps have been taken, int32.
  """

  params: Params
  state: State
  optimizer_state: Any
  key: Key
  step: jax.Array


def make_train_step(learner: Learner, optimizer: optax.GradientTransformation) -> Callable:
  """`(train_state, batch) -> (train_state, metrics)`, one step of the outer optimizer, to be jitted by the caller.

  Metrics hold the learner's own, "loss" and "grad_norm", the latter in 32 bits at least.

  Raises:
    TypeError: if what is given is no learner or optimizer.
  """
  check_learner(learner)
  check_optimizer(optimizer)

  def train_step(train_state, batch):
    key = jax.random.fold_in(train_state.key, train_state.step)
    differentiate = jax.value_and_grad(learner.loss, has_aux=True)
    whole = gather_params(train_state.params)
    (loss, (state, metrics)), gradient = differentiate(whole, train_state.state, batch, key)
    gradient = keep_sharded(gradient)
    updates, optimizer_state = optimizer.update(gradient, train_state.optimizer_state, train_state.params)
    params, optimizer_state = keep_sharded((optax.apply_updates(train_state.params, updates), optimizer_state))
    metrics = {**metrics, "loss": loss, "grad_norm": _norm(gradient)}
    return TrainState(params, state, optimizer_state, train_state.key, train_state.step + 1), metrics

  return train_step


def _norm(gradient) -> jax.Array:
  """The norm of all gradients together: in 16 bits 4,000 of 6 would already be infinite."""
  return optax.tree.norm(jax.tree.map(wide, gradient))


def start(learner: Learner, optimizer: optax.GradientTransformation, batch: Any, seed: int = 0) -> TrainState:
  """The TrainState before the first step, spread over the mesh. `batch` is a host-local example of the data.

  Raises:
    TypeError: if what is given is no learner or optimizer.
  """
  check_learner(learner)
  check_optimizer(optimizer)
  key, run_key = jax.random.split(jax.random.key(seed))
  params, state = learner.init(key, batch)
  made = TrainState(params, state, optimizer.init(params), run_key, jnp.zeros((), jnp.int32))
  made = jax.tree.map(_copy, made)  # a step is given its buffers: none may be shared or outlive it
  params, optimizer_state = shard_parameters((made.params, made.optimizer_state))
  return replicate(made)._replace(params=params, optimizer_state=optimizer_state)


def _copy(x):
  """By the device, without a program for each shape; what is traced, a key or of several hosts is copied by one."""
  x = jnp.asarray(x)
  return jax.device_put(x, may_alias=False) if is_concrete(x) and not is_key(x) else jnp.copy(x)


def each_seed(train_state: TrainState, seed: int | Sequence[int]) -> list[TrainState]:
  """The TrainState of each of the seeds that a run trained: of one, or of a sequence side by side."""
  if np.ndim(seed) == 0:
    return [train_state]
  return [jax.tree.map(lambda x, i=i: x[i], train_state) for i in range(len(seeds_in(seed)))]
