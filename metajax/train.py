"""The training loop: one for every learner."""

import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
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


class Stopped(Exception):
  """Training was asked to stop between two steps.

  Attributes:
    reason: what `stop` gave.
    step: the steps that were done.
    saved: whether a checkpoint of that step is on disk.
  """

  def __init__(self, reason: str, step: int, saved: bool):
    super().__init__(f"stopped by {reason} after step {step}, {'saved' if saved else 'not saved'}")
    self.reason, self.step, self.saved = reason, step, saved


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
  seed: int | Sequence[int] = 0,
  log: Callable[[int, dict[str, float]], None] | None = None,
  log_every: int = 100,
  validate: Callable[[Params, State], float] | None = None,
  validate_every: int = 1000,
  checkpoints: Any = None,
  checkpoint_every: int = 1000,
  stop: Callable[[], str | None] = lambda: None,
  debug_nans: bool = False,
) -> TrainState:
  """Trains a learner for `steps` steps and gives its TrainState.

  Under `jax.set_mesh(make_mesh())` each batch is sharded over the devices; each host reads its own part.

  Args:
    learner: any Learner.
    optimizer: the outer optimizer, e.g. `optax.adam(1e-3)`.
    batches: `batches(start, shard)`, an iterator of host-local numpy batches.
    steps: how many, at least 1.
    seed: of the initialisation and of what the learner draws while it trains. A sequence of seeds trains as many
      networks side by side: `batches` are then those of `for_seeds`, and the TrainState has a leading `[seeds]`.
    log: is given (step, metrics averaged since it was last called) every `log_every` steps, after each validation
      and after the last step. They hold "validation" where there was one, and of this process, validation left out,
      "steps_per_second", "waiting_for_data", the share of the time that the batches took, 0 to 1, and "seconds",
      of the whole run.
    log_every: steps.
    validate: `(params, state) -> score`, the larger the better, every `validate_every` steps and after the last. Where
      it is given, the TrainState returned is the one of the best score: model selection on validation tasks. What it
      is given is good until the next step only.
    validate_every: steps.
    checkpoints: a `Checkpoints`. Training goes on from the newest one there that can be read, as if it had never
      ended: the same batches, parameters to the bit, and the same calls of `log`.
    checkpoint_every: steps between checkpoints; one is also written for each best score and after the last step.
    stop: is asked after each step; where it gives a reason, a checkpoint is written and `Stopped` raised.
    debug_nans: look at each step, at twice the memory, and replay the first one that is not finite operation by
      operation: JAX's error then points at the line that made it.

  Raises:
    ValueError: if `steps`, `log_every`, `validate_every` or `checkpoint_every` is below 1, a seed is not in [0, 2^32),
      the batches end early, or a checkpoint is of another learner or a later step.
    FloatingPointError: if the loss or the gradient is not finite, naming the step, its batch and the last checkpoint.
    OSError: if a checkpoint cannot be written.
    Stopped: as `stop` asks.
  """
  every = {"log_every": log_every, "validate_every": validate_every, "checkpoint_every": checkpoint_every}
  _check(seed, steps=steps, **every)
  run = _Run(learner, optimizer, seed, log, validate, checkpoints, debug_nans)
  stream = run.begin(batches, steps)
  for step in range(run.step + 1, steps + 1):
    run.advance(stream, steps)
    last, reason = step == steps, stop()
    better = run.score() if validate and (step % validate_every == 0 or last) else False
    if step % log_every == 0 or run.scores is not None or last:
      run.report()
    if checkpoints and (step % checkpoint_every == 0 or better or last or reason):
      run.save()
    if reason and not last:
      if checkpoints:
        checkpoints.wait()
      raise Stopped(reason, step, saved=bool(checkpoints))
  if checkpoints:
    checkpoints.wait()
  return run.best if validate else run.train_state


def restore(
  learner: Learner, optimizer: optax.GradientTransformation, batches: Batches, checkpoints: Any, *, seed=0, best=True
) -> TrainState:
  """What a run has in its checkpoints: the TrainState of its best validation, or of its last step if `best` is False.

  Args:
    learner, optimizer, batches, checkpoints, seed: as they were given to `fit`.
    best: the last step is also taken where nothing was validated.

  Raises:
    FileNotFoundError: if there is no checkpoint that can be read.
    ValueError: if the checkpoint is of another learner or optimizer.
  """
  run = _Run(learner, optimizer, seed, None, best, checkpoints, False)
  run.begin(batches, math.inf)
  if not run.step:
    raise FileNotFoundError(f"expected a checkpoint that can be read in {checkpoints.folder}, got none")
  return run.train_state if run.best is None else run.best


def for_seeds(batches: Sequence[Batches]) -> Batches:
  """The batches of several seeds side by side, `[rows, seeds, ...]`, for `fit(..., seed=(0, 1, ...))`."""

  def together(start=0, shard=(0, 1)):
    for each in zip(*(iter(one(start, shard)) for one in batches), strict=False):
      yield jax.tree.map(lambda *x: np.stack(x, axis=1), *each)

  return together


def seeds_at_once(
  learner: Learner, optimizer: optax.GradientTransformation, batches: Sequence[Batches], seeds: Sequence[int]
) -> int:
  """How many of the seeds to train side by side: the largest divisor of their number that the memory allows.

  On a CPU it is 1: there one network fills the cores, and side by side they only take memory.

  Args:
    learner, optimizer: as for `fit`.
    batches: of each seed.
    seeds: as many.
  """
  if jax.default_backend() == "cpu":
    return 1
  for count in sorted({len(seeds) // n for n in range(1, len(seeds) + 1) if len(seeds) % n == 0}, reverse=True):
    if count == 1:
      break
    run = _Run(learner, optimizer, tuple(seeds[:count]), None, None, None, False)
    stream = run.begin(for_seeds(batches[:count]), math.inf)
    if _bytes(run.train_step, run.train_state, shard_batch(next(stream))) < _bytes_free():
      return count
  return 1


def _bytes(step, *arguments) -> int:
  """What a step takes of each device, and the copy of its best state."""
  memory = step.lower(*arguments).compile().memory_analysis()
  return memory.temp_size_in_bytes + memory.argument_size_in_bytes + 2 * memory.output_size_in_bytes


def _bytes_free() -> float:
  found = jax.local_devices()[0].memory_stats() or {}
  return found.get("bytes_limit", math.inf) - found.get("bytes_in_use", 0)


class _Run:
  """A training run at a step: what it has learned, and what it has yet to report."""

  def __init__(self, learner, optimizer, seed, log, validate, checkpoints, debug_nans):
    self.learner, self.optimizer, self.seed = learner, optimizer, seed
    self.log, self.validate, self.checkpoints, self.debug_nans = log, validate, checkpoints, debug_nans
    self.many = np.ndim(seed) > 0
    self.step, self.train_state, self.before = 0, None, None
    self.best, self.best_step = None, None
    self.best_score = np.full(np.shape(seed), -np.inf)
    self.scores = None  # of the validation after this step
    self.window, self.pending = [], []  # metrics of the steps since the last report: on the host, on the device
    self.seconds, self.began, self.waited, self.timed = 0.0, 0.0, 0.0, 0
    step = make_train_step(learner, optimizer)
    self.train_step = jax.jit(
      jax.vmap(step, in_axes=(0, 1)) if self.many else step, donate_argnums=() if debug_nans else 0
    )

  def begin(self, batches, steps):
    """Starts, or goes on from the last checkpoint; gives the batches that are still to come."""
    shard = (jax.process_index(), jax.process_count())
    stream = iter(batches(0, shard))
    first = next(stream, None)
    if first is None:
      raise ValueError(f"expected batches for {steps} steps, got 0")
    self.train_state = self._start(first)
    if self.checkpoints:
      self._resume(steps)
    self.began = time.perf_counter()
    return iter(batches(self.step, shard)) if self.step else itertools.chain([first], stream)

  def _start(self, batch):
    if not self.many:
      return start(self.learner, self.optimizer, batch, self.seed)
    part = lambda i: jax.tree.map(lambda x: x[:, i], batch)
    each = [start(self.learner, self.optimizer, part(i), seed) for i, seed in enumerate(self.seed)]
    return jax.tree.map(lambda *x: jnp.stack(x), *each)

  def _resume(self, steps):
    found = self.checkpoints.restore(self._saved())
    if found is None:
      return
    self.step, tree, note = found
    if self.step > steps:
      there = f"the {self.step} steps of the checkpoint in {self.checkpoints.folder}"
      raise ValueError(f"expected at least {there}, got {steps}")
    self.train_state = tree["now"] if self.many else tree
    self.window, self.seconds, self.best_step = note["window"], note["seconds"], note["best_step"]
    if not self.validate or self.best_step is None:
      return
    if self.many or self.best_step == self.step:
      best = found
    else:
      best = self.checkpoints.restore(self.train_state, self.best_step)
    if best is None:
      said = f"the best parameters, of step {self.best_step}, cannot be read: the best from here on counts"
      warnings.warn(said, stacklevel=4)
      self.best_step = None
    else:
      self.best = _copy(best[1]["best"] if self.many else best[1])
      self.best_score = np.asarray(note["best_score"], float)

  def _saved(self):
    """What a checkpoint holds. Seeds have their best at different steps, which no single checkpoint would hold."""
    if not self.many:
      return self.train_state
    return {"now": self.train_state, "best": self.train_state if self.best is None else self.best}

  def advance(self, stream, steps):
    """One step of the optimizer."""
    asked = time.perf_counter()
    batch = next(stream, None)
    self.waited += time.perf_counter() - asked
    if batch is None:
      raise ValueError(f"expected batches for {steps} steps, got {self.step}")
    sharded = shard_batch(batch)
    self.before = self.train_state if self.debug_nans else None
    self.train_state, metrics = self.train_step(self.train_state, sharded)
    if self.pending:
      jax.block_until_ready(self.pending[-1])  # one step ahead of the device at most: batches do not pile up
    self.pending.append(metrics)
    self.step, self.scores, self.timed = self.step + 1, None, self.timed + 1
    if self.debug_nans:
      self._look(replay=sharded)

  def score(self) -> bool:
    """Validates; whether this step is the best so far."""
    self._look()
    paused = time.perf_counter()
    if self.many:
      parts = [jax.tree.map(lambda x, i=i: x[i], self.train_state) for i in range(len(self.seed))]
    else:
      parts = [self.train_state]
    scores = np.array([float(self.validate(part.params, part.state)) for part in parts])
    self.scores = scores if self.many else scores[0]
    better = (self.scores > self.best_score) | np.isnan(self.best_score) | (self.best is None)
    self.began += time.perf_counter() - paused
    if not better.any():
      return False
    if self.many and self.best is not None:
      pick = lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
      self.best = jax.tree.map(pick, self.train_state, self.best)
    else:
      self.best = _copy(self.train_state)
    self.best_score, self.best_step = np.where(better, self.scores, self.best_score), self.step
    return True

  def report(self):
    """Gives the metrics since the last report to `log`."""
    self._look()
    now = time.perf_counter()
    elapsed, waited = now - self.began, self.waited
    self.seconds += elapsed
    if self.log:
      metrics = {name: float(np.mean([m[name] for m in self.window])) for name in self.window[0]}
      if self.scores is not None:
        metrics["validation"] = float(np.mean(self.scores))
        if self.many:
          metrics |= {f"validation/seed_{seed}": float(x) for seed, x in zip(self.seed, self.scores, strict=True)}
      rate = {"steps_per_second": self.timed / elapsed, "waiting_for_data": waited / elapsed, "seconds": self.seconds}
      self.log(self.step, metrics | rate)
    self.window, self.waited, self.timed, self.began = [], 0.0, 0, time.perf_counter()

  def save(self):
    """Writes a checkpoint, in the background."""
    self._look()
    seconds = self.seconds + time.perf_counter() - self.began
    note = {"window": self.window, "seconds": seconds, "best_step": self.best_step}
    note["best_score"] = None if self.best_step is None else self.best_score.tolist()
    self.checkpoints.save(self.step, self._saved(), note, best=self.best_step)

  def _look(self, replay=None):
    """Fetches the metrics that are still on the device, and stops where they are not finite."""
    first = self.step - len(self.pending) + 1
    for step, metrics in enumerate(jax.device_get(self.pending), first):
      for name in ("loss", "gradient_norm"):
        if not np.isfinite(metrics[name]).all():
          if replay is not None:
            self._replay(replay)
          raise FloatingPointError(self._not_finite(name.replace("_", " "), metrics[name], step))
      self.window.append({name: np.asarray(value, float).tolist() for name, value in metrics.items()})
    self.pending = []
    for path, finite in jax.tree_util.tree_leaves_with_path(jax.device_get(_finite(self.train_state.params))):
      if not finite:
        name = "parameter " + jax.tree_util.keystr(path, simple=True, separator=".")
        raise FloatingPointError(self._not_finite(name, np.array(np.nan), self.step))

  def _replay(self, batch):
    """Takes the step again, one operation at a time, so that JAX's error points at the line that made the number."""
    for nans, infs in ((True, False), (True, True)):
      with jax.debug_nans(nans), jax.debug_infs(infs), jax.disable_jit():
        try:
          self.train_step(self.before, batch)
        except FloatingPointError as error:
          error.add_note(f"This was step {self.step}, on batch {self.step - 1} of seed {self.seed}.")
          raise

  def _not_finite(self, what, value, step):
    there = self.checkpoints.steps() if self.checkpoints else []
    last = f"the last good checkpoint is {self.checkpoints.folder / str(there[-1])}" if there else "there is none saved"
    seed = f"one of the seeds {list(self.seed)}" if self.many else f"seed {self.seed}"
    return f"the {what} was {value} at step {step}, on batch {step - 1} of {seed}; {last}"


@jax.jit
def _finite(params):
  return jax.tree.map(lambda x: jnp.isfinite(x).all(), params)


def _copy(train_state):
  return jax.tree.map(jnp.copy, train_state)  # the next step is given the buffers


def _check(seed, **least_one):
  for name, value in least_one.items():
    if value < 1:
      raise ValueError(f"expected {name} to be at least 1, got {value}")
  for one in np.atleast_1d(seed).tolist():
    if not 0 <= one < 2**32:  # beyond, JAX's keys repeat
      raise ValueError(f"expected a seed of 0 to 2**32 - 1, got {one}")
