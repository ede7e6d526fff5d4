"""The training of a run: `fit` with metrics, checkpoints, a trace, and a saved stop on signals."""

import contextlib
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import optax

from metajax import paths
from metajax.checkpoint import Checkpoints
from metajax.checks import counted
from metajax.experiment.hangs import reporting_hangs
from metajax.experiment.run_folder import Run
from metajax.experiment.throughput import throughput
from metajax.experiment.types import Experiment, Training
from metajax.mesh import barrier, broadcast_from_primary, preemption_requested, process_shard, set_exit_advice
from metajax.report import Format, log_to, metrics_log, progress, read_metrics, wandb_log, write_whole
from metajax.train import Stopped, with_ema
from metajax.types import Batches, MetricLogger


class Kept(NamedTuple):
  """Arguments of `fit` for a recorded training.

  Attributes:
    batches: Batches, which report a resume and start the trace.
    fit_arguments: Further arguments of `fit`.
    took: `() -> seconds` of the training, after it.
  """

  batches: Batches
  fit_arguments: dict[str, Any]
  took: Callable[[], float]


def averaging(optimizer: optax.GradientTransformation, ema: float) -> optax.GradientTransformation:
  """The optimizer of a training with the flag `--ema`."""
  return with_ema(optimizer, ema) if ema else optimizer


def parts_of_a_batch(experiment: Experiment, training: Training) -> int:
  """The parts into which the train step divides a batch.

  Raises:
    ValueError: if `--accumulate` is given and the rows of a batch meet in the loss.
  """
  if training.accumulate > 1 and experiment.accumulate == "no":
    raise ValueError(
      f"expected --accumulate 1, because the rows of a batch meet in the loss of {experiment.name}, got "
      f"{training.accumulate}"
    )
  return training.accumulate if experiment.accumulate == "parts" else 1


def check_parts(parts: int, rows: int):
  """Raises unless the parts divide a batch."""
  if rows % parts:
    raise ValueError(f"expected --accumulate that divides a batch of {rows}, got {parts}")


@contextlib.contextmanager
def recorded(
  run: Run,
  part: str,
  batches: Batches,
  steps: int,
  *,
  rows: int,
  unit: str = "tasks",
  flops: Callable[[], int] | None = None,
) -> Generator[Kept, None, None]:
  """Provides `fit` with metrics, checkpoints and a trace.

  A first SIGTERM or Ctrl-C stops the training after the current step, and saves it; a second Ctrl-C stops immediately.
  With several hosts a signal to any one stops all after the same step.

  Args:
    run: Run.
    part: Subfolder of the run if it trains several learners; else "".
    batches, steps: As for `fit`.
    rows: Tasks or examples per step.
    unit: Which of them.
    flops: Counts the operations of a step, for "mfu".
  """
  folder, flags = run.folder / part, run.flags
  seconds = [0.0]
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints", flags.keep))
    done = max(checkpoints.steps(), default=0)
    show = stack.enter_context(progress(steps, rows, unit, start=done))
    stop = stack.enter_context(_stop_on_signals())
    stack.enter_context(_advised(run))
    wandb = [stack.enter_context(_wandb(run, part))] if "wandb" in flags.log and done < steps else []
    fit_arguments = {
      "log": _log(stack, run, part, [show, *wandb], seconds, throughput(rows, done, _seen(folder), flops)),
      "log_every": max(1, min(100, steps // 20)),
      "checkpoints": checkpoints,
      "checkpoint_every": flags.checkpoint_every or max(1, steps // 20),
      "stop": stop,
      "debug_nans": flags.debug_nans,
    }
    profile = stack.enter_context(_on_disk(folder / "profile"))
    watched = stack.enter_context(reporting_hangs(_telling(batches), flags.hang_report))
    traced = stack.enter_context(_traced(watched, profile, flags.profile, str(folder / "profile")))
    yield Kept(traced, fit_arguments, lambda: seconds[0] or _seconds(folder))
    if reason := stop():
      raise Stopped(reason, steps, saved=True)
  barrier("the metrics are written")


def _log(
  stack: contextlib.ExitStack, run: Run, part: str, others: list, seconds: list[float], speed: Callable
) -> MetricLogger:
  """The `log` of `fit`: writes each row of metrics and of speed, passes it on, and keeps the training time."""
  formats = [one for one in get_args(Format) if one in run.flags.log]
  loggers = []

  def log(step, metrics):
    if not loggers:
      # A resumed run repeats the steps after its checkpoint: their old rows are dropped.
      files = stack.enter_context(metrics_log(run.folder / part, after=step - 1, formats=formats))
      loggers.append(log_to(files, *others))
    loggers[0](step, metrics | speed(step, metrics))
    seconds[0] = metrics["seconds"]

  return log


def _wandb(run: Run, part: str) -> AbstractContextManager[MetricLogger]:
  """The run's logger at Weights & Biases; WANDB_PROJECT, WANDB_MODE and others of its variables apply."""
  project = {} if "WANDB_PROJECT" in os.environ else {"project": "metajax"}
  return wandb_log(
    **project,
    id=broadcast_from_primary(lambda: _wandb_id(run.folder / part)),
    dir=tempfile.gettempdir() if paths.remote(run.folder) else run.folder / part,
    name="/".join(filter(None, (run.folder.name, part))),
    group=run.folder.name,
    config=run.configuration["flags"],
    allow_val_change=True,  # some flags may change on resume
  )


def _wandb_id(folder: Path) -> str:
  """The id of a run at Weights & Biases, which its folder keeps, so that a resumed run goes on there."""
  path = folder / "wandb-id.txt"
  if not paths.exists(path):
    write_whole(path, secrets.token_hex(8).encode())
  return paths.read_bytes(path).decode("utf-8", errors="replace").strip()


@contextlib.contextmanager
def _advised(run: Run):
  """Adds the command that resumes the training to an error that ends it."""
  again = run.resume_command()
  set_exit_advice(f"to resume: {again}")
  try:
    yield
  except (Stopped, jax.errors.JaxRuntimeError) as stopped:
    _advise(stopped, f"to resume: {again}")
    raise
  except FloatingPointError as error:
    if not run.flags.debug_nans:
      _advise(error, f"to debug: {again} --debug-nans")
    raise


@contextlib.contextmanager
def advised_in_tests(run: Run):
  """Adds the command that repeats the tests of a trained run to an interruption of them."""
  try:
    yield
  except KeyboardInterrupt as interruption:
    _advise(interruption, f"the training is complete; to repeat the tests: {run.resume_command()}")
    raise


def _advise(error: BaseException, said: str):
  vars(error)["advice"] = [said]  # the command line adds it to the message


def _seen(folder):
  """The last step that a training has reported before; 0 for none."""
  rows = read_metrics(folder)
  return rows[-1]["step"] if rows else 0


def _seconds(folder):
  """Seconds of a training that had finished before."""
  rows = read_metrics(folder)
  return rows[-1]["seconds"] if rows else 0.0


@contextlib.contextmanager
def _stop_on_signals():
  """Yields a `stop` for `fit` that returns the name of a received signal, or None."""
  if process_shard()[1] > 1:
    # JAX handles SIGTERM and notifies all hosts; Ctrl-C is converted to SIGTERM.
    before = signal.signal(signal.SIGINT, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    try:
      yield lambda: "SIGTERM" if preemption_requested() else None
    finally:
      signal.signal(signal.SIGINT, before)
    return
  came = []

  def handle(number, frame):
    if came and number == signal.SIGINT:
      raise KeyboardInterrupt
    came.append(signal.Signals(number).name)
    print(f"{came[0]}: saving after this step", file=sys.stderr)

  before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield lambda: came[0] if came else None
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _telling(batches: Callable):
  """The batches, which report the step of a resume."""

  def telling(start=0, shard=(0, 1)):
    if start:
      print(f"resuming after step {start}")
    return batches(start, shard)

  return telling


@contextlib.contextmanager
def _on_disk(folder: Path) -> Generator[Path]:
  """The folder, or one on a disk whose files are put into the folder's bucket at the end."""
  if not paths.remote(folder):
    yield folder
    return
  with tempfile.TemporaryDirectory() as scratch:
    yield Path(scratch)
    paths.put_folder(Path(scratch), folder)


@contextlib.contextmanager
def _traced(batches: Callable, folder: Path, steps: int, kept: str):
  """The batches, with a trace of `steps` steps from the fourth on, as the first ones compile; it is kept in `kept`."""
  tracing = []

  def end():
    if tracing:
      jax.profiler.stop_trace()
      print(f"trace of {counted(len(tracing), 'step')}, for TensorBoard or Perfetto: {kept}")
      tracing.clear()

  def traced(start=0, shard=(0, 1)):
    for i, batch in enumerate(batches(start, shard)):
      if i == 3:
        jax.profiler.start_trace(str(folder), create_perfetto_trace=True)
      if 3 <= i < 3 + steps:
        tracing.append(i)
      if i == 3 + steps:
        end()
      yield batch

  try:
    yield traced if steps else batches
  finally:
    end()
