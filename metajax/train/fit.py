"""The training loop: one for every learner."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import optax

from metajax import checks
from metajax.train._loop import Run
from metajax.train.given import check_batches, check_checkpoints, check_learner, check_optimizer, check_seed
from metajax.train.step import TrainState
from metajax.types import Batches, Learner, Params, State


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
  eval_every: int = 1000,
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
    seed: of the initialization and of what the learner draws while it trains. A sequence of seeds trains as many
      networks side by side: `batches` are then those of `for_seeds`, and the TrainState has a leading `[seeds]`.
    log: is given (step, metrics averaged since it was last called) every `log_every` steps, after validations and the
      last step. They hold "validation" where there was one, and of this process, validation left out,
      "steps_per_second", "data_wait_fraction", the share of the time that the batches took, 0 to 1, and "seconds",
      of the whole run.
    log_every: steps.
    validate: `(params, state) -> score`, the larger the better, every `eval_every` steps and after the last. Where
      it is given, the TrainState returned is the one of the best score: model selection on validation tasks. What it
      is given is good until the next step only.
    eval_every: steps.
    checkpoints: a `Checkpoints`. Training goes on from the newest one there that can be read, as if it had never
      ended: the same batches, parameters to the bit, and the same calls of `log`.
    checkpoint_every: steps between checkpoints; one is also written for each best score and after the last step.
    stop: is asked after each step; where it gives a reason, a checkpoint is written and `Stopped` raised.
    debug_nans: look at each step, at twice the memory, and replay the first one that is not finite operation by
      operation: JAX's error then points at the line that made it.

  Raises:
    TypeError: if what is given is no learner, optimizer, `batches(start, shard)` or `Checkpoints`.
    ValueError: if `steps`, `log_every`, `eval_every` or `checkpoint_every` is no whole number of at least 1, a seed
      is not in [0, 2^32), the batches end early, or a checkpoint is of another learner or a later step.
    FloatingPointError: if the loss, the gradient, or what was learned is not finite, the learner's state and the
      optimizer's among it, naming the step, its batch and the last checkpoint.
    OSError: if a checkpoint cannot be written.
    Stopped: as `stop` asks.
  """
  every = {"log_every": log_every, "eval_every": eval_every, "checkpoint_every": checkpoint_every}
  asked = {"log": log, "validate": validate, "stop": stop}
  _check(learner, optimizer, batches, seed, checkpoints, asked, steps=steps, **every)
  run = Run(learner, optimizer, seed, log, validate, checkpoints, debug_nans)
  for batch in run.until(steps, batches):
    run.took_step(batch, *run.train_step(run.train_state, batch))
    _after_step(run, stop, steps, **every)
  return run.best if validate else run.train_state


def _after_step(run, stop, steps, *, log_every, eval_every, checkpoint_every):
  """Validates, reports and saves, where it is time to; ends the training where `stop` has a reason."""
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
  """What a run has in its checkpoints: the TrainState of its best validation, or of its last step if `best` is False.

  Args:
    learner, optimizer, batches, checkpoints, seed: as they were given to `fit`.
    best: the last step is also taken where nothing was validated.

  Raises:
    FileNotFoundError: if there is no checkpoint.
    TypeError: as `fit`.
    ValueError: if the last or the best cannot be read, or is of another learner or optimizer.
  """
  _check(learner, optimizer, batches, seed, checkpoints)
  run = Run(learner, optimizer, seed, None, best, checkpoints, False)
  run.begin(batches, math.inf)
  there = checkpoints.steps()
  if not there:
    raise FileNotFoundError(f"expected a checkpoint in {checkpoints.folder}, got none")
  if run.step != there[-1]:
    raise ValueError(
      f"expected checkpoints that can be read in {checkpoints.folder}, but the last one, or the best one before it, "
      "cannot be: go on with the run, which finds them again"
    )
  return run.train_state if run.best is None else run.best


def _check(learner, optimizer, batches, seed, checkpoints, functions=None, **least_one):
  check_learner(learner)
  check_optimizer(optimizer)
  check_batches(batches)
  check_seed(seed)
  check_checkpoints(checkpoints)
  for name, value in least_one.items():
    checks.count(name, value)
  for name, function in (functions or {}).items():
    if function is not None:
      checks.function(name, function, "or None")
