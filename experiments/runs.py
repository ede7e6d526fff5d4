"""A run's folder: its configuration, its metrics at each step, checkpoints to go on from, records, figures, a page."""

import contextlib
import itertools
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from experiments import claims, command_line, records
from experiments.configuration import configuration, module_of
from metajax import paths
from metajax.checkpoint import Checkpoints
from metajax.checks import counted
from metajax.mesh import advise, from_first_host, meet_hosts, preempted, share
from metajax.report import metrics_log, progress, read_metrics
from metajax.train import Stopped, TrainState, fit

FREE = {"folder", "resume", "output", "record", "checkpoint_every", "keep", "profile", "debug_nans", "devices", "fsdp"}
FREE |= {"download", "test_tasks", "curve", "temperature", "top_k", "top_p", "prompts"}
# What a run may change without becoming another one.


class RunFlags(NamedTuple):
  """Flags that every experiment has."""

  folder: Path | None = None
  """The run's own folder; by default one named after the run and the time, in --output."""
  resume: bool = False
  """Go on with the run in --folder, with its flags, from its last good checkpoint; start it where there is none."""
  output: Path = Path("runs")
  """Folder in which runs have their folders."""
  record: bool = False
  """Write records and picture to experiments/results and rebuild experiments/README.md."""
  checkpoint_every: int | None = None
  """Steps between checkpoints; by default a twentieth of the training."""
  keep: int = 3
  """How many of the newest checkpoints to keep; the best is kept beside them."""
  profile: int = 0
  """Trace this many steps, for TensorBoard (its Profile tab) or Perfetto."""
  precision: Literal["highest", "high", "default"] = "highest"
  """Of matrix products: "highest" agrees between CPU, GPU and TPU; "default" is TF32 or bfloat16 there, and faster."""
  fsdp: bool = False
  """Share the parameters and the optimizer's state between the devices too, rather than keep a copy on each."""
  debug_nans: bool = False
  """Look at every step, and replay the first that is not finite: the error then points at the line that made it."""


RUN = RunFlags()


class Run(NamedTuple):
  """A run: its folder, its flags, whether it goes on with one that was there, and what it will say in `run.json`."""

  folder: Path
  flags: RunFlags
  resumed: bool
  configuration: dict


def begin(name: str, main: Callable, flags: Mapping) -> Run:
  """Finds the run's folder and what stands in its way, without writing anything.

  Args:
    name: of a new run, to which the time is added.
    main: the experiment, in whose module its command is.
    flags: all of the experiment's, by name; those of the run are its `run`.

  Raises:
    ValueError: if the folder holds a run and `resume` is False, or a run of other flags.
    OSError: if it cannot be written.
  """
  asked = flags["run"]
  there = check(asked)
  jax.config.update("jax_default_matmul_precision", asked.precision)
  new = lambda: str(asked.output / time.strftime(f"{name}-%Y%m%d-%H%M%S"))
  folder = from_first_host(new) if asked.folder is None else asked.folder  # the hosts' clocks differ
  return Run(Path(folder), asked, there, _described(main, flags))


def check(asked: RunFlags) -> bool:
  """Finds what stands in the way of a run's folder, without writing anything; gives whether there is a run in it.

  Raises:
    ValueError, OSError: as `begin`.
  """
  if asked.resume and asked.folder is None:
    raise ValueError("expected --folder with --resume: the folder of the run to go on with")
  return from_first_host(lambda: _check(asked))


def _check(asked: RunFlags) -> bool:
  records.check_writable(asked.output if asked.folder is None else asked.folder)
  if asked.folder is None:
    return False
  there, folder = (asked.folder / "run.json").exists(), str(asked.folder)
  claims.check_free(asked.folder)
  if there and not asked.resume:
    raise ValueError(f"expected a folder without a run, got {folder!r}: --resume goes on with it")
  left = asked.folder.iterdir() if asked.folder.is_dir() else ()
  if not there and any(not path.name.startswith((paths.SCRATCH, claims.CLAIM)) for path in left):
    raise ValueError(f"expected an empty or a new folder for the run, got {folder!r}")
  return there


def _claim(run: Run) -> str:
  """Makes the run's folder and claims it; one that was not named gives way to another run of the same second."""
  folder = run.folder
  if run.flags.folder is not None:
    folder.mkdir(parents=True, exist_ok=True)
    claims.take(folder)
    if _check(run.flags) != run.resumed:
      raise ValueError(f"expected the folder {str(folder)!r} as it was, got one with a run that began meanwhile")
    return str(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  for i in itertools.count(1):
    new = folder if i == 1 else folder.with_name(f"{folder.name}-{i}")
    with contextlib.suppress(FileExistsError):
      new.mkdir()
      claims.take(new)
      return str(new)


def check_same(run: Run):
  """Refuses to go on with a run under flags that would make it another one.

  Raises:
    ValueError: naming the first flag that differs.
  """
  if not run.resumed:
    return
  before, now = configuration(run.folder), run.configuration
  if before["experiment"] != now["experiment"]:
    raise ValueError(f"expected a run of {now['experiment']} in {str(run.folder)!r}, got one of {before['experiment']}")
  for name, value in now["flags"].items():
    was = before["flags"].get(name, value)  # a flag that came later has its default
    if name not in FREE and was != value:
      flag = f"--{name.replace('_', '-')}"
      raise ValueError(f"expected {flag} {_text(was)}, as the run in {str(run.folder)!r} has it, got {_text(value)}")


def write_configuration(run: Run, devices: int, **more) -> Run:
  """Claims the run's folder and writes `run.json`: the experiment, its flags, versions, machine and command, and what
  is new of each session. Gives the run, whose folder is another if it was not named and somebody has taken it.

  Raises:
    ValueError, OSError: if another process has the folder, or it cannot be written.
  """
  run = run._replace(folder=Path(from_first_host(lambda: _claim(run))))
  now = run.configuration | more
  session = {"started": time.strftime("%Y-%m-%d %H:%M:%S"), "command": now["command"], "devices": devices}
  session |= {"hosts": share()[1]} if share()[1] > 1 else {}
  session |= {"machine": now["machine"], "versions": now["versions"]}
  before = configuration(run.folder) if run.resumed else now | {"sessions": []}
  records.write(run.folder / "run.json", before | {"sessions": [*before["sessions"], session]})
  meet_hosts("run.json is written")
  return run


def shown(folder: Path) -> dict:
  """What the page says of `run.json`: all but the arguments, which are in the command."""
  return {name: value for name, value in configuration(folder).items() if name != "arguments"}


def flags_of(folder: Path, modules: Sequence[str] = ()):
  """The experiment's module, which is one of this package's commands or of `modules`, and all flags of the run.

  Raises:
    OSError, ValueError: if the folder has no run of these.
  """
  module = module_of(folder, modules)
  try:
    flags = command_line.parse(module.main, getattr(module, "BUDGETS", None), configuration(folder)["arguments"])
  except ValueError as error:
    raise ValueError(f"{error} (the run in {str(folder)!r})") from None
  if not isinstance(flags.get("run"), RunFlags):
    raise ValueError(f"expected a run of an experiment in {str(folder)!r}, got one of {module.__name__}")
  return module, flags


def train(
  run: Run,
  learner,
  optimizer,
  batches,
  steps: int,
  *,
  rows: int,
  part: str = "",
  log_every: int | None = None,
  **fit_flags,
) -> tuple[TrainState, float]:
  """`fit` with all that a run keeps: metrics, checkpoints, a trace. Gives the TrainState and the seconds it took.

  A first SIGTERM or Ctrl-C ends it after the step under way, saved; a second Ctrl-C at once. Of several hosts any one
  is told, and all end after the same step.

  Args:
    run: the run.
    learner, optimizer, batches, steps: as for `fit`.
    rows: tasks (or examples) in a step.
    part: a folder within the run's, where it trains several learners.
    log_every: steps between rows of the metrics; by default up to 100.
    fit_flags: others of `fit`.
  """
  folder, flags = run.folder / part, run.flags
  seconds = [0.0]
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints", flags.keep))
    done = max(checkpoints.steps(), default=0)
    show = stack.enter_context(progress(steps, rows, start=done))
    written = []

    def log(step, metrics):
      if not written:
        # A run that goes on writes the steps after its checkpoint again: what is there of them is dropped.
        written.append(stack.enter_context(metrics_log(folder, after=step - 1)))
      written[0](step, metrics)
      show(step, metrics)
      seconds[0] = metrics["seconds"]

    stop = stack.enter_context(_stop_on_signals())
    advise(f"go on with it: {_again(run)}")
    try:
      trained = fit(
        learner,
        optimizer,
        stack.enter_context(_traced(_telling(batches), folder / "profile", flags.profile)),
        steps,
        log=log,
        log_every=log_every or max(1, min(100, steps // 20)),
        checkpoints=checkpoints,
        checkpoint_every=flags.checkpoint_every or max(1, steps // 20),
        stop=stop,
        debug_nans=flags.debug_nans,
        **fit_flags,
      )
      if reason := stop():
        raise Stopped(reason, steps, saved=True)
    except (Stopped, jax.errors.JaxRuntimeError) as stopped:
      stopped.advice = [f"go on with it: {_again(run)}"]
      raise
    except FloatingPointError as error:
      if not flags.debug_nans:
        error.advice = [f"look into it: {_again(run)} --debug-nans"]
      raise
  meet_hosts("the metrics are written")
  return trained, seconds[0] or _seconds(folder)


def _again(run: Run) -> str:
  return shlex.join(["python", "-m", run.configuration["experiment"], "--folder", str(run.folder), "--resume"])


def _seconds(folder):
  """How long a training took that had ended before."""
  rows = read_metrics(folder)
  return rows[-1]["seconds"] if rows else 0.0


@contextlib.contextmanager
def _stop_on_signals():
  """Gives a `stop` for `fit` that says which signal has come."""
  if share()[1] > 1:
    # SIGTERM is heard by JAX, which tells all hosts; Ctrl-C is made one.
    before = signal.signal(signal.SIGINT, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    try:
      yield lambda: "SIGTERM" if preempted() else None
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
  """The batches, which say where a run goes on."""

  def telling(start=0, shard=(0, 1)):
    if start:
      print(f"going on after step {start}")
    return batches(start, shard)

  return telling


@contextlib.contextmanager
def _traced(batches: Callable, folder: Path, steps: int):
  """The batches, with a trace of `steps` steps from the third on: the first ones compile."""
  tracing = []

  def end():
    if tracing:
      jax.profiler.stop_trace()
      print(f"trace of {counted(len(tracing), 'step')}, for TensorBoard or Perfetto: {folder}")
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


def _described(main: Callable, flags: Mapping) -> dict:
  """The configuration of a run with these flags."""
  flat = {}
  for name, value in flags.items():
    flat |= value._asdict() if hasattr(value, "_asdict") else {name: value}
  return {
    "experiment": command_line.module_of(main),
    "arguments": command_line.arguments(),
    "command": command_line.command(),
    "flags": {name: _plain(value) for name, value in flat.items()},
    "machine": records.machine(),
    "versions": records.versions(),
  }


def _plain(value):
  if isinstance(value, tuple | list):
    return [_plain(one) for one in value]
  return str(value) if isinstance(value, os.PathLike) else value


def _text(value) -> str:
  return " ".join(map(str, value)) if isinstance(value, list) else str(value)
