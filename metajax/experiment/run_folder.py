"""Run folders: locking, `run.json`, and the flags that may change on resume."""

import contextlib
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from metajax import paths
from metajax.checkpoint.manager import checked_folder
from metajax.experiment import bounds, claims, command_line, flags, former_flags, longer, records
from metajax.experiment.configuration import configuration, plain, shown
from metajax.experiment.groups import group_of
from metajax.experiment.precision import arithmetic, resolved, set_precision
from metajax.experiment.types import RunFlags
from metajax.mesh import barrier, broadcast_from_primary, process_shard
from metajax.report.wandb_log import check_wandb

FLAGS_MUTABLE_ON_RESUME = {
  "folder",
  "resume",
  "output",
  "record",
  "checkpoint_every",
  "keep",
  "log",
  "profile",
  "debug_nans",
  "export",
  "devices",
  "fsdp",
  "mesh",
  "compile_for",
  "hang_report",
}
FLAGS_MUTABLE_ON_RESUME |= {"download", "test_tasks", "adaptation_curve", "temperature", "top_k", "top_p", "prompts"}


class Run(NamedTuple):
  """A run: its folder, its flags, whether it resumes an existing run, and the contents of `run.json`."""

  folder: Path
  flags: RunFlags
  resumed: bool
  configuration: dict

  def resume_command(self) -> str:
    """The command that resumes the run."""
    return shlex.join(["python", "-m", self.configuration["experiment"], "--folder", str(self.folder), "--resume"])


def begin(name: str, build: Callable, config: Any) -> Run:
  """Finds and checks the folder of a run, without writing anything.

  Args:
    name: Name of a new run, to which the time is appended.
    build: The experiment's `build`; its module is the command.
    config: Config that contains a `RunFlags`.

  Raises:
    ValueError: if the folder holds a run and `resume` is False, or a run of other flags.
    OSError: if it cannot be written.
  """
  asked = group_of(config, RunFlags)
  there = check(asked)
  set_precision(asked.precision)

  def new():
    return str(asked.output / time.strftime(f"{name}-%Y%m%d-%H%M%S"))

  folder = broadcast_from_primary(new) if asked.folder is None else asked.folder  # the hosts' clocks differ
  return Run(paths.place("--folder", folder), asked, there, _described(build, config))


def check(asked: RunFlags) -> bool:
  """Checks the folder of a run, without writing anything; returns whether it holds a run.

  Raises:
    ValueError, OSError: as `begin`.
  """
  if asked.resume and asked.folder is None:
    raise ValueError("expected --folder with --resume: the folder of the run to resume")
  return broadcast_from_primary(lambda: _check(asked))


def _check(asked: RunFlags) -> bool:
  folder = asked.output if asked.folder is None else asked.folder
  checked_folder(folder)
  records.check_writable(folder)
  if "wandb" in asked.log:
    _check_wandb()
  if asked.folder is None:
    return False
  there, folder = paths.exists(asked.folder / "run.json"), str(asked.folder)
  claims.check_free(asked.folder)
  if there and not asked.resume:
    raise ValueError(f"expected a folder without a run, got {folder!r}: --resume goes on with it")
  left = asked.folder.iterdir() if asked.folder.is_dir() else ()
  if not there and any(not path.name.startswith((paths.SCRATCH, claims.CLAIM)) for path in left):
    raise ValueError(f"expected an empty or a new folder for the run, got {folder!r}")
  return there


def _check_wandb():
  try:
    check_wandb()
  except ModuleNotFoundError as error:
    raise ValueError(f"expected --log without wandb, got it: {error}") from None


def _claim(run: Run) -> str:
  """Makes and claims the run's folder; a folder without a given name gets a suffix if it is taken."""
  folder = run.folder
  if run.flags.folder is not None:
    paths.make_folder(folder)
    claims.take(folder)
    if _check(run.flags) != run.resumed:
      raise ValueError(f"expected {str(folder)!r} unchanged, but another process started a run in it; try again")
    return str(folder)
  paths.make_folder(folder.parent)
  new, i = folder, 1
  while not _made(new):
    i += 1
    new = folder.with_name(f"{folder.name}-{i}")
  return str(new)


def _made(folder: Path) -> bool:
  """Makes a folder and claims it; whether nobody had it."""
  with contextlib.suppress(FileExistsError):
    if paths.remote(folder) and paths.exists(folder):
      return False
    if not paths.remote(folder):
      folder.mkdir()
    claims.take(folder)
    return True
  return False


def check_same(run: Run, config: Any):
  """Refuses to go on with a run under flags that would make it another one.

  Args:
    run: the run.
    config: its flags, of which some had another name once.

  Raises:
    ValueError: naming the first flag that differs, or if `--steps` is below the steps that are trained.
  """
  if not run.resumed:
    return
  before, now = configuration(run.folder), run.configuration
  if before["experiment"] != now["experiment"]:
    raise ValueError(f"expected a run of {now['experiment']} in {str(run.folder)!r}, got one of {before['experiment']}")
  kinds = flags.kinds_of(type(config))
  for name, value in now["flags"].items():
    was = former_flags.value_in(before["flags"], name, kinds.get(name), value)
    if name in FLAGS_MUTABLE_ON_RESUME or was == value:
      continue
    if name == "precision" and resolved(was) == resolved(value):
      continue
    if name != longer.STEPS or not longer.may_change(run.folder, was, value):
      flag = f"--{flags.dashed(name)}"
      raise ValueError(f"expected {flag} {shown(was)}, as the run in {str(run.folder)!r} has it, got {shown(value)}")


def write_configuration(run: Run, devices: int, **more: Any) -> Run:
  """Claims the run's folder and writes `run.json`: the experiment, its flags, versions, machine and command, and what
  is new of each session. Gives the run, whose folder is another if it was not named and somebody has taken it.

  Raises:
    ValueError, OSError: if another process has the folder, or it cannot be written.
  """
  run = run._replace(folder=paths.place("--folder", broadcast_from_primary(lambda: _claim(run))))
  now = run.configuration | more
  session = {"started": time.strftime("%Y-%m-%d %H:%M:%S"), "command": now["command"], "devices": devices}
  session |= {"hosts": process_shard()[1]} if process_shard()[1] > 1 else {}
  session |= {name: now[name] for name in ("machine", "precision", "versions")}
  before = now | {"sessions": []}
  if run.resumed:
    before = longer.with_steps(run.folder, configuration(run.folder), now["flags"][longer.STEPS])
  records.write(run.folder / "run.json", before | {"sessions": [*before["sessions"], session]})
  barrier("run.json is written")
  return run


def _described(build: Callable, config: Any) -> dict:
  """The configuration of a run with these flags."""
  return {
    "experiment": command_line.module_of(build),
    "arguments": command_line.arguments(),
    "command": command_line.typed(),
    "flags": {name: plain(value) for name, value in bounds.flat(config._asdict())},
    "machine": records.machine(),
    "precision": arithmetic(),
    "versions": records.versions(),
  }
