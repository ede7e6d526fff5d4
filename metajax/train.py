"""The training loop: one for every learner."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.mesh import replicate, shard_batch
from metajax.types import Batches, Key, Learner, Params, State


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

  Metrics hold the learner's own, "loss" and "gradient_norm".
  """

  def step(train_state, batch):
    key = jax.random.fold_in(train_state.key, train_state.step)
    differentiate = jax.value_and_grad(learner.loss, has_aux=True)
    (loss, (state, metrics)), gradient = differentiate(train_state.params, train_state.state, batch, key)
    updates, optimizer_state = optimizer.update(gradient, train_state.optimizer_state, train_state.params)
    params = optax.apply_updates(train_state.params, updates)
    metrics = {**metrics, "loss": loss, "gradient_norm": optax.tree.norm(gradient)}
    return TrainState(params, state, optimizer_state, train_state.key, train_state.step + 1), metrics

  return step


def start(learner: Learner, optimizer: optax.GradientTransformation, batch: Any, seed: int = 0) -> TrainState:
  """The TrainState before the first step, replicated over the mesh. `batch` is a host-local example of the data."""
  key, run_key = jax.random.split(jax.random.key(seed))
  params, state = learner.init(key, batch)
  made = TrainState(params, state, optimizer.init(params), run_key, jnp.zeros((), jnp.int32))
  return replicate(jax.tree.map(jnp.copy, made))  # a step is given its buffers: none may be shared or outlive it


def fit(
  learner: Learner,
  optimizer: optax.GradientTransformation,
  batches: Batches,
  steps: int,
  *,
  seed: int = 0,
  log: Callable[[int, dict[str, float]], None] | None = None,
  log_every: int = 100,
  validate: Callable[[Params, State], float] | None = None,
  validate_every: int = 1000,
) -> TrainState:
  """Trains a learner for `steps` steps and gives its TrainState.

  Under `jax.set_mesh(make_mesh())` each batch is sharded over the devices; each host reads its own part.

  Args:
    learner: any Learner.
    optimizer: the outer optimizer, e.g. `optax.adam(1e-3)`.
    batches: `batches(start, shard)`, an iterator of host-local numpy batches.
    steps: how many, at least 1.
    seed: of the initialisation and of what the learner draws while it trains.
    log: is given (step, metrics averaged since it was last called) every `log_every` steps and after the last; they
      hold "steps_per_second", validation left out.
    log_every: steps.
    validate: `(params, state) -> score`, the larger the better, every `validate_every` steps and after the last. Where
      it is given, the TrainState returned is the one of the best score: model selection on validation tasks. What it
      is given is good until the next step only.
    validate_every: steps.

  Raises:
    ValueError: if `steps`, `log_every` or `validate_every` is below 1, the seed is not in [0, 2^32), or the batches
      end early.
    FloatingPointError: if the loss or the gradient is not finite, naming the step by which it was seen.
  """
  for name, value in (("steps", steps), ("log_every", log_every), ("validate_every", validate_every)):
    if value < 1:
      raise ValueError(f"expected {name} to be at least 1, got {value}")
  if not 0 <= seed < 2**32:  # beyond, JAX's keys repeat
    raise ValueError(f"expected a seed of 0 to 2**32 - 1, got {seed}")
  stream = batches(0, (jax.process_index(), jax.process_count()))
  train_step = jax.jit(make_train_step(learner, optimizer), donate_argnums=0)
  train_state = best = None
  best_score, window, began = -np.inf, [], time.perf_counter()
  for step, batch in zip(range(1, steps + 1), stream, strict=False):
    sharded = shard_batch(batch)
    if train_state is None:
      train_state = start(learner, optimizer, batch, seed)
    train_state, metrics = train_step(train_state, sharded)
    if window:
      jax.block_until_ready(window[-1])  # one step ahead of the device at most, so that batches do not pile up
    window.append(metrics)
    if step % log_every == 0 or step == steps:
      _report(step, window, began, log)
      window, began = [], time.perf_counter()
    if validate and (step % validate_every == 0 or step == steps):
      paused = time.perf_counter()
      score = float(validate(train_state.params, train_state.state))
      began += time.perf_counter() - paused
      if best is None or score > best_score or np.isnan(best_score):
        best_score, best = score, jax.tree.map(jnp.copy, train_state)  # the next step is given the buffers
  if train_state is None or int(train_state.step) < steps:
    done = 0 if train_state is None else int(train_state.step)
    raise ValueError(f"expected batches for {steps} steps, got {done}")
  return best if validate else train_state


def _report(step, window, began, log):
  metrics = {name: float(np.mean([m[name] for m in jax.device_get(window)])) for name in window[0]}
  for name in ("loss", "gradient_norm"):
    if not np.isfinite(metrics[name]):
      what = name.replace("_", " ")
      raise FloatingPointError(f"the {what} was {metrics[name]} within the {len(window)} steps up to step {step}")
  if log:
    log(step, metrics | {"steps_per_second": len(window) / (time.perf_counter() - began)})
