"""The training loop: one for every learner."""

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import optax

from metajax import checks
from metajax.mesh import is_primary_host, split_cpu
from metajax.train._loop import Run, first_batch
from metajax.train.given import check_batches, check_checkpoints, check_learner, check_optimizer, check_seed
from metajax.train.step import TrainState
from metajax.types import Batches, Learner, MetricLogger, Params, State


class Stopped(Exception):
  """Raised when `stop` ends training between two steps.

  Attributes:
    reason: Result of `stop`.
    step: Number of completed steps.
    saved: Whether a checkpoint of that step is on disk.
  """

  def __init__(self, reason: str, step: int, saved: bool):
    super().__init__(f"stopped by {reason} after step {step}, {'saved' if saved else 'not saved'}")
    self.reason, self.step, self.saved = reason, step, saved


def fit(
  learner: Learner,
  optimizer: optax.GradientTransformation,
  batches: Batches,
  steps: int,
  *,
  seed: int | Sequence[int] = 0,
  progress: bool = False,
  log: MetricLogger | None = None,
  log_every: int = 100,
  validate: Callable[[Params, State], float] | None = None,
  eval_every: int = 1000,
  checkpoints: Any = None,
  checkpoint_every: int = 1000,
  stop: Callable[[], str | None] = lambda: None,
  accumulate: int = 1,
  debug_nans: bool = False,
) -> TrainState:
  """Trains a learner for `steps` steps; returns the last TrainState, or the best one if `validate` is given.

  Args:
    learner, optimizer: Learner to train, and the outer optimizer, e.g. `optax.adam(1e-3)`.
    batches: Function `batches(start, shard)`, which returns an iterator of host-local numpy batches. They are sharded
      over `jax.set_mesh(make_mesh())`, or the cores of a CPU after `split_cpu` or if `fit` is the first to use JAX.
    steps: Total number of steps, including those before a resume; at least 1.
    seed: Seed of the initialization and of the learner's noise. A sequence of seeds trains that many networks side by
      side: pass `for_seeds(...)` as `batches`; the TrainState gets a leading `[seeds]` axis.
    progress: Shows the progress: a bar on a terminal or in a notebook, elsewhere a line every `log_every` steps.
    log: `log(step, metrics)`, called every `log_every` steps, after validations and the last step: averages since the
      last call, "validation", "steps_per_second" and "data_wait_fraction" (0 to 1) between validations, and "seconds".
    validate: `(params, state) -> score`, larger is better, called every `eval_every` steps and after the last; selects
      the returned TrainState. Its arguments are valid only until the next step.
    checkpoints: A `Checkpoints`; resumes from its newest readable one: same batches, parameter bits and `log` calls.
    log_every, eval_every, checkpoint_every: Steps between reports, validations, checkpoints (also of the best).
    stop: Called after each step; if it returns a reason, a checkpoint is written and `Stopped` is raised.
    accumulate: Parts of a batch, one after the other; see `make_train_step`.
    debug_nans: Checks every step, at twice the memory; JAX's error names the line of the first non-finite value.

  Raises:
    TypeError: if an argument has the wrong type.
    ValueError: if a count is below 1, a seed outside [0, 2^32), batches end early, or a checkpoint does not match.
    FloatingPointError: if loss, gradient, params or a state is not finite; names step, batch and last checkpoint.
    OSError, Stopped: if a checkpoint cannot be written, or `stop` returns a reason.

  Example:
    >>> import itertools, numpy as np, optax
    >>> from metajax import Examples, compose, fit, learners
    >>> batch = Examples(np.eye(8, 2, dtype=np.float32), np.eye(8, 2))
    >>> int(fit(learners.supervised(compose.linear(2)), optax.sgd(0.1), lambda *_: itertools.repeat(batch), 3).step)
    3
  """
  every = {"log_every": log_every, "eval_every": eval_every, "checkpoint_every": checkpoint_every}
  _check(learner, optimizer, batches, seed, checkpoints, log, validate, stop, steps=steps, **every)
  split_cpu()
  run = Run(learner, optimizer, seed, log, validate, checkpoints, debug_nans, accumulate)
  with run.started(batches, steps) as remaining, _shown(run, steps, progress):
    for batch in run.until(steps, remaining):
      run.took_step(batch, *run.train_step(run.train_state, batch))
      _after_step(run, stop, steps, **every)
  return run.result()


@contextlib.contextmanager
def _shown(run: Run, steps: int, progress: bool) -> Generator[None]:
  """Shows the progress of a run, if asked to: its step after each one, and its metrics when they are reported."""
  if not (progress and is_primary_host()):
    yield
    return
  from metajax.progress import progress as bar  # imported here: most trainings log by other means

  with bar(steps, run.rows, run.unit, start=run.step) as show:
    run.show = show
    yield


def _after_step(run, stop, steps, *, log_every, eval_every, checkpoint_every):
  """Validates, reports and saves when due; raises `Stopped` if `stop` returns a reason."""
  last, reason = run.step == steps, stop()
  better = run.score() if run.validate and (run.step % eval_every == 0 or last) else False
  if run.step % log_every == 0 or run.scores is not None or last:
    run.report()
  if run.checkpoints and (run.step % checkpoint_every == 0 or better or last or reason):
    run.save()
  if run.checkpoints and (last or reason):
    run.checkpoints.wait()
  if reason and not last:
    raise Stopped(reason, run.step, saved=bool(run.checkpoints))


def restore(
  learner: Learner,
  optimizer: optax.GradientTransformation,
  batches: Batches,
  checkpoints: Any,
  *,
  seed: int | Sequence[int] = 0,
  best: bool = True,
) -> TrainState:
  """Restores the TrainState of a run from its checkpoints, without training.

  Args:
    learner, optimizer, batches, checkpoints, seed: Same arguments as for `fit`.
    best: Whether to restore the TrainState of the best validation score instead of the last step. Without validation it
      is the last step in either case.

  Returns:
    The TrainState.

  Raises:
    FileNotFoundError: if the folder has no checkpoint.
    TypeError: as for `fit`.
    ValueError: if the last or the best checkpoint cannot be read, or is of another learner or optimizer.
  """
  _check(learner, optimizer, batches, seed, checkpoints)
  run = Run(learner, optimizer, seed, None, best, checkpoints, False)
  run.begin(*first_batch(batches, math.inf), batches, math.inf)
  there = checkpoints.steps()
  if not there:
    raise FileNotFoundError(f"expected a checkpoint in {checkpoints.folder}, got none")
  if run.step != there[-1]:
    raise ValueError(
      f"expected readable checkpoints in {checkpoints.folder}, but the last one, or the best one before it, cannot be "
      "read: resume the run to compute them again"
    )
  return run.train_state if run.best is None else run.best


def _check(learner, optimizer, batches, seed, checkpoints, log=None, validate=None, stop=None, **least_one):
  check_learner(learner)
  check_optimizer(optimizer)
  check_batches(batches)
  check_seed(seed)
  check_checkpoints(checkpoints)
  for name, value in least_one.items():
    checks.count(name, value)
  if log is not None:
    checks.logger("log", log, "or None")
  for name, function in {"validate": validate, "stop": stop}.items():
    if function is not None:
      checks.function(name, function, "or None")
