"""The state of a training run: its step, its checkpoints, and its unreported metrics."""

import collections
import contextlib
import itertools
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import checks
from metajax.mesh import on_one_device, over_cores, process_shard, shard_batch, without_mesh
from metajax.train.averaging import averaged
from metajax.train.given import seeds_in
from metajax.train.step import TrainState, each_seed, make_train_step, start
from metajax.types import Batch, Batches, Episode, Learner, MetricLogger

AHEAD = 2  # batches on the device: the one of the next step, and the one that moves there meanwhile


def first_batch(batches: Batches, steps: float) -> tuple[Batch, Iterator[Batch]]:
  """The first batch of this host, and the ones after it.

  Raises:
    ValueError: If there is none.
  """
  stream = iter(batches(0, process_shard()))
  first = next(stream, None)
  if first is None:
    raise ValueError(f"expected batches for {steps} steps, got 0")
  return first, stream


class Run:
  """A training run at a step: its TrainState, the best one so far, and the metrics that are not yet reported."""

  def __init__(
    self,
    learner: Learner,
    optimizer: optax.GradientTransformation,
    seed: int | Sequence[int],
    log: MetricLogger | None,
    validate: Callable | bool | None,
    checkpoints: Any,
    debug_nans: bool,
    accumulate: int = 1,
  ):
    self.learner, self.optimizer, self.seed = learner, optimizer, seed
    self.log, self.checkpoints, self.debug_nans = log, checkpoints, debug_nans
    self.show: MetricLogger | None = None  # shows the progress, also without metrics
    self.rows, self.unit = 0, "examples"  # rows of a global batch, set by `begin`
    self.validate: Any = validate  # a bool in `restore`: whether to load the best TrainState
    self.many, self.seeds = np.ndim(seed) > 0, seeds_in(seed)
    self.step, self.before, self.best_step = 0, None, None
    self.over_cores = False  # whether the mesh is of this run alone, so that `validate` sees none
    self.train_state: Any = None  # a TrainState, set by `begin`
    self.best: Any = None  # the TrainState of the best score
    self.best_score = np.full(np.shape(seed), -np.inf)
    self.scores = None  # validation scores of this step, if any
    self.unbounded = frozenset()  # names of leaves that are infinite at the start: a state may hold a bound
    self.window, self.pending = [], []  # metrics since the last report: on the host, and still on the device
    self.seconds, self.began, self.waited, self.timed = 0.0, 0.0, 0.0, 0
    step = make_train_step(learner, optimizer, accumulate)
    self.train_step = jax.jit(
      jax.vmap(step, in_axes=(0, 1)) if self.many else step, donate_argnums=() if debug_nans else 0
    )

  def begin(self, first: Batch, stream: Iterator[Batch], batches: Batches, steps: float) -> Iterator[Batch]:
    """Starts, or resumes from the last checkpoint; returns the remaining batches.

    Args:
      first: First batch.
      stream: The batches after it.
      batches, steps: As for `fit`.
    """
    leaves = jax.tree.leaves(first)
    self.rows = math.prod(np.shape(leaves[0])[: 1 + self.many]) * process_shard()[1] if leaves else 0
    self.unit = "tasks" if isinstance(first, Episode) else "examples"
    self.train_state = self._start(first)
    bounds = [name for name, value in self._not_finite_now().items() if np.isinf(value)]
    self.unbounded = frozenset(name for name in bounds if not name.startswith("parameter"))
    if self.checkpoints:
      self.checkpoints.check_savable(self._saved())
      self._resume(steps)
    self.began = time.perf_counter()
    return iter(batches(self.step, process_shard())) if self.step else itertools.chain([first], stream)

  @contextlib.contextmanager
  def started(self, batches: Batches, steps: float) -> Generator[Iterator[Batch]]:
    """A context of the run, sharded over the cores of a CPU where no mesh is set; yields the remaining batches."""
    first, stream = first_batch(batches, steps)
    with contextlib.nullcontext(False) if self.debug_nans else over_cores(first) as self.over_cores:
      yield self.begin(first, stream, batches, steps)

  def result(self) -> TrainState:
    """The last TrainState, or the best one if there was a validation."""
    found = self.train_state
    if self.validate:
      found = self._best_on_disk() if self.best is None else self.best
    return on_one_device(found) if self.over_cores else found

  def _best_on_disk(self) -> TrainState:
    found = self.checkpoints.restore(self._saved(), self.best_step)
    if found is None:
      raise ValueError(
        f"expected a readable checkpoint of the best step {self.best_step} in {self.checkpoints.folder}: resume the "
        "run from an earlier one"
      )
    return found[1]

  def _start(self, batch):
    if not self.many:
      return start(self.learner, self.optimizer, batch, self.seeds[0])

    def part(i):
      return jax.tree.map(lambda x: x[:, i], batch)

    each = [start(self.learner, self.optimizer, part(i), seed) for i, seed in enumerate(self.seeds)]
    return jax.tree.map(lambda *x: jnp.stack(x), *each)

  def _resume(self, steps):
    for there in reversed(self.checkpoints.steps()):
      found = self.checkpoints.restore(self._saved(), there)
      if found is None:
        continue
      step, tree, note = found
      if step > steps:
        raise ValueError(
          f"expected at least the {step} steps of the checkpoint in {self.checkpoints.folder}, got {steps}"
        )
      if note["seed"] != self._seed():
        raise ValueError(f"expected seed {note['seed']}, of the run in {self.checkpoints.folder}, got {self.seed}")
      if self.validate and note["best_step"] is not None:
        alone = not self.many and note["best_step"] != step
        best = self.checkpoints.restore(tree, note["best_step"]) if alone else found
        if best is None:
          # Resuming earlier lets the run find its best again; resuming here would lose it for good.
          said = f"the checkpoint of step {step} is skipped: the best before it, of step {note['best_step']}, is lost"
          warnings.warn(said, stacklevel=4)
          continue
        if self.many or not self._keeps_best_on_disk():
          self.best = _copy(best[1]["best"] if self.many else best[1])
        self.best_score, self.best_step = np.asarray(note["best_score"], float), note["best_step"]
      self.step, self.train_state = step, tree["now"] if self.many else tree
      self.window, self.seconds = note["window"], note["seconds"]
      return

  def _keeps_best_on_disk(self) -> bool:
    """Whether the best TrainState is read from its checkpoint at the end, so that the devices hold no copy of it."""
    return bool(self.checkpoints) and callable(self.validate) and not self.many

  def _seed(self):
    return np.asarray(self.seed).tolist()

  def _saved(self):
    """Returns the tree to save. Seeds reach their best at different steps, so it then includes the best TrainStates."""
    if not self.many:
      return self.train_state
    return {"now": self.train_state, "best": self.train_state if self.best is None else self.best}

  def until(self, steps: int, batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields the remaining batches until the run has taken `steps` steps; `AHEAD` of them are on the devices.

    An error of a batch is raised once the steps before it are taken.
    """
    ready, error = collections.deque(), None
    while self.step < steps:
      while error is None and len(ready) < min(AHEAD, steps - self.step):
        try:
          batch = self._next_batch(batches)
        except Exception as raised:
          error = raised
          break
        if batch is None:
          break
        ready.append(batch)
      if not ready and error:
        raise error
      if not ready:
        raise ValueError(f"expected batches for {steps} steps, got {self.step}")
      self.before = self.train_state if self.debug_nans else None
      yield ready.popleft()

  def _next_batch(self, stream) -> Batch | None:
    """The next batch, which starts to move to the devices, or None at the end."""
    asked = time.perf_counter()
    batch = next(stream, None)
    self.waited += time.perf_counter() - asked
    return None if batch is None else shard_batch(jax.tree.map(_owned, batch))

  def took_step(self, batch: Batch, train_state: TrainState, metrics: dict):
    """Records the result of a step."""
    self.train_state = train_state
    if self.pending:
      jax.block_until_ready(self.pending[-1])  # the host is at most one step ahead, so batches do not pile up
    self.pending.append(metrics)
    self.step, self.scores, self.timed = self.step + 1, None, self.timed + 1
    if self.debug_nans:
      self._look(replay=batch)
    if self.show:
      self.show(self.step, {})

  def score(self) -> bool:
    """Validates; returns True if this step is the best so far."""
    self._look()
    paused = time.perf_counter()
    parts = [averaged(part) for part in each_seed(self.train_state, self.seed)]
    scores = np.array([self._score_of(part.params, part.state) for part in parts])
    self.scores = scores if self.many else scores[0]
    better = (self.scores > self.best_score) | np.isnan(self.best_score) | (self.best_step is None)
    self.began += time.perf_counter() - paused
    if not better.any():
      return False
    if self.many and self.best is not None:

      def pick(new, old):
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

      self.best = jax.tree.map(pick, self.train_state, self.best)
    elif not self._keeps_best_on_disk():
      self.best = _copy(self.train_state)
    self.best_score, self.best_step = np.where(better, self.scores, self.best_score), self.step
    return True

  def _score_of(self, params, state) -> float:
    if not self.over_cores:
      return float(self.validate(params, state))
    with without_mesh():
      return float(self.validate(*on_one_device((params, state))))

  def report(self):
    """Passes the metrics since the last report to `log`."""
    self._look()
    now = time.perf_counter()
    elapsed, waited = now - self.began, self.waited
    self.seconds += elapsed
    loggers = [log for log in (self.log, self.show) if log]
    if loggers:
      metrics = {name: float(np.mean([m[name] for m in self.window])) for name in self.window[0]}
      if self.scores is not None:
        metrics["validation"] = float(np.mean(self.scores))
        if self.many:
          metrics |= {f"validation/seed_{seed}": float(x) for seed, x in zip(self.seeds, self.scores, strict=True)}
      rate = {"steps_per_second": self.timed / elapsed, "data_wait_fraction": waited / elapsed, "seconds": self.seconds}
      for log in loggers:
        log(self.step, metrics | rate)
    self.window, self.waited, self.timed, self.began = [], 0.0, 0, time.perf_counter()

  def save(self):
    """Writes a checkpoint, in the background."""
    self._look()
    seconds = self.seconds + time.perf_counter() - self.began
    note = {"window": self.window, "seconds": seconds, "best_step": self.best_step}
    note["seed"] = self._seed()
    note["best_score"] = None if self.best_step is None else self.best_score.tolist()
    self.checkpoints.save(self.step, self._saved(), note, best=self.best_step)

  def _look(self, replay=None):
    """Fetches the metrics that are still on the device, and raises if they or the TrainState are not finite."""
    if not self.pending:
      return  # no step since the last call
    first = self.step - len(self.pending) + 1
    for step, metrics in enumerate(jax.device_get(self.pending), first):
      for name in ("loss", "grad_norm"):
        if not np.isfinite(metrics[name]).all():
          if replay is not None:
            self._replay(replay)
          raise FloatingPointError(self._not_finite(name.replace("_", " "), metrics[name], step))
      self.window.append({name: np.asarray(value, float).tolist() for name, value in metrics.items()})
    self.pending = []
    for name, value in self._not_finite_now().items():
      if np.isnan(value) or name not in self.unbounded:
        if replay is not None:
          self._replay(replay)
        raise FloatingPointError(self._not_finite(name, value, self.step))

  def _not_finite_now(self):
    """Returns `{name: nan or inf}` of all non-finite parameters, learner state and optimizer state."""
    now = self.train_state
    parts = {"parameter": now.params, "learner's state": now.state, "optimizer's state": now.optimizer_state}
    return {path.replace(".", " ", 1): x for path, x in checks.not_finite(parts).items()}

  def _replay(self, batch):
    """Repeats the step one operation at a time, so that JAX's error points to the line that made the number."""
    for nans, infs in ((True, False), (True, True)):
      with jax.debug_nans(nans), jax.debug_infs(infs), jax.disable_jit():
        try:
          self.train_step(self.before, batch)
        except FloatingPointError as error:
          error.add_note(
            f"This was step {self.step}, on batch {self.step - 1} of seed {self.seed}; {self._last_good()}."
          )
          raise

  def _not_finite(self, what, value, step):
    seed = f"one of the seeds {self.seeds}" if self.many else f"seed {self.seed}"
    return f"the {what} was {value} at step {step}, on batch {step - 1} of {seed}; {self._last_good()}"

  def _last_good(self):
    there = self.checkpoints.steps() if self.checkpoints else []
    return (
      f"the last good checkpoint is {self.checkpoints.folder / str(there[-1])}" if there else "no checkpoint is saved"
    )


def _owned(x):
  """A copy of an array that its maker may fill with the next batch while this one still waits for its step."""
  return x.copy() if isinstance(x, np.ndarray) and x.flags.writeable else x


def _copy(train_state):
  return jax.tree.map(jnp.copy, train_state)  # the next step donates the buffers
