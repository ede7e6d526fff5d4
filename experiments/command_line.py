"""A plain function as a command: every argument a flag, presets by `--budget`, one clear line for bad input."""

import contextlib
import errno
import functools
import inspect
import io
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import tyro

from experiments import claims, flag_bounds, flags
from experiments.configuration import configuration
from experiments.terminal import printable
from metajax.mesh import LOST, first_host, join, share
from metajax.train import Stopped

PATIENCE = 2  # seconds
_HOSTS = ("coordinator", "hosts", "host", "dead-after")
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # what is no fault of a program
_DISK |= {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
_PROJECT = Path(__file__).resolve().parent.parent


def run(main: Callable, budgets: Mapping[str, Mapping] | None = None):
  """Runs `main` with the flags of the command line.

  `--budget NAME` sets the defaults of a preset, before all else; flags given beside it win. With `--folder RUN
  --resume` the flags of that run come first. An error that metajax or the experiment raises of its own is printed as
  one line, with exit status 2; any other keeps its traceback. A run that SIGTERM stopped ends with 0, one that Ctrl-C
  stopped with 130. Compiled programs are kept for the next run.

  `--coordinator ADDRESS:PORT --hosts N --host I` (or METAJAX_COORDINATOR, METAJAX_HOSTS and METAJAX_HOST) make this
  process one of several that run the command together; on TPU pods and under SLURM they find each other.
  `--dead-after` says after how many seconds without a sign of life a host ends the others.

  Args:
    main: a function of keyword arguments with defaults.
    budgets: presets `{name: {argument: default}}`; the first is the one without `--budget`.
  """
  if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", str(_PROJECT / ".cache" / "jax"))
  if _several_hosts():
    return _as_one_of_several(main, budgets)
  if hasattr(sys.stdout, "reconfigure"):  # no name of a file ends a run because it cannot be printed
    sys.stdout.reconfigure(errors="backslashreplace")
  before = signal.signal(signal.SIGTERM, _end)
  signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with _quiet_where_nobody_reads():
      _run(main, budgets)
  finally:
    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet_where_nobody_reads():
  """Ends as a signal would where what is printed goes to a program that has ended, such as `head`."""
  try:
    try:
      yield
    finally:
      sys.stdout.flush()
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the exit
    sys.exit(128 + signal.SIGPIPE)


def _run(main, budgets):
  try:
    keywords = parse(main, budgets, [*_arguments_of_the_run(), *sys.argv[1:]])
    flag_bounds.check_devices(keywords)
    main(**keywords)
  except BrokenPipeError:
    raise
  except Stopped as stopped:
    print(_said(stopped), file=sys.stderr)
    sys.exit(0 if stopped.reason == "SIGTERM" else 130)
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
  except (ValueError, OSError, FloatingPointError) as error:
    if isinstance(error, OSError) and error.errno in _DISK:
      _fail(f"{error.strerror}: {error.filename or 'a file of the run'}")
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    if not any(_PROJECT / part in raised_in.parents for part in ("metajax", "experiments")):
      raise
    _fail(_said(error))
  finally:
    claims.release()


def _several_hosts() -> bool:
  """Joins other hosts, as the flags, the environment or a cluster say; the flags are taken away."""
  arguments = sys.argv[1:]
  given = {
    name: _take(arguments, f"--{name}")[-1:] or [os.environ.get(f"METAJAX_{name.upper().replace('-', '_')}")]
    for name in _HOSTS
  }
  (coordinator,), *numbers = given.values()
  try:
    numbers = [number for (number,) in numbers]
    if bad := [number for number in numbers if number is not None and not re.fullmatch("[0-9]{1,9}", number)]:
      raise ValueError(f"expected whole numbers, got {bad[0][:60]!r}")
    if numbers[2] is not None and int(numbers[2]) < 1:
      raise ValueError(f"expected --dead-after to be at least 1, got {numbers[2]}")
    hosts, host, dead_after = (None if number is None else int(number) for number in numbers)
    several = join(coordinator, hosts, host, **({} if dead_after is None else {"dead_after": dead_after}))
  except (ValueError, RuntimeError) as error:
    _fail(f"{error} (--coordinator, --hosts, --host)")
  sys.argv[1:] = arguments
  return several


def _as_one_of_several(main, budgets):
  """`_run`, where only the first host prints, and none leaves the others waiting."""
  try:
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
      stack.enter_context(contextlib.redirect_stdout(sys.stdout if first_host() else nowhere))
      stack.enter_context(_quiet_where_nobody_reads())
      _run(main, budgets)
  except SystemExit as stop:
    if stop.code:
      _leave(stop.code)
    raise
  except jax.errors.JaxRuntimeError as error:
    time.sleep(PATIENCE)  # who watches the others knows better which of them ended, and says so
    said = str(error).splitlines()[0]
    advice = "; ".join(["", *getattr(error, "advice", ())])
    print(f"error: host {share()[0]} can no longer work with the others: {said}{advice}", file=sys.stderr)
    _leave(LOST)
  except BaseException:
    traceback.print_exc()
    _leave(1)


def _leave(status: int):
  """Ends this process at once. An exit as usual would wait for the others, who wait for this one."""
  claims.release()
  sys.stdout.flush()
  sys.stderr.flush()
  if first_host():
    time.sleep(PATIENCE)  # others that have the same to say do so before they lose the one that they were to meet
  os._exit(status)


def parse(main: Callable, budgets: Mapping[str, Mapping] | None, arguments: Sequence[str]) -> dict:
  """The keyword arguments of `main` that the arguments of a command line stand for, all of them.

  Raises:
    ValueError: if there is no such flag or preset, or one has a value that it may not have.
  """
  arguments, description = list(arguments), (main.__doc__ or "").split("\n")[0]
  defaults = {}
  if budgets:
    names = _take(arguments, "--budget") or [next(iter(budgets))]
    if names[-1] not in budgets:
      raise ValueError(f"expected --budget to be one of {', '.join(budgets)}, got {names[-1]!r}")
    defaults = budgets[names[-1]]
    description += f" Presets: --budget {'|'.join(budgets)}; the defaults below are those of {names[-1]!r}."
  description += " As one of several hosts: --coordinator ADDRESS:PORT --hosts N --host I, or --coordinator auto."
  return _parse(functools.partial(main, **defaults), arguments, description)


def module_of(main: Callable) -> str:
  """The name of the module that a command's function is of, also where that module runs as the command."""
  return _running() if main.__module__ == "__main__" else main.__module__


def command() -> str:
  """The command that makes a run like this one, as one would type it."""
  return shlex.join(["python", "-m", _running(), *arguments()])


def arguments() -> list[str]:
  """The command's arguments, after those of the run that is gone on with; but not which folder it has."""
  left = [argument for argument in sys.argv[1:] if argument != "--resume"]
  _take(left, "--folder")
  before = _arguments_of_the_run()
  return before if left == before else [*before, *left]


def _running() -> str:
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  return spec.name if spec else Path(sys.argv[0]).stem


def _arguments_of_the_run() -> list[str]:
  """What the run was started with that is to be gone on with."""
  given = sys.argv[1:]
  folder = _take(list(given), "--folder")
  folder = Path(folder[-1]).expanduser() if folder and "--resume" in given else None
  return configuration(folder)["arguments"] if folder and os.path.isfile(folder / "run.json") else []


def _end(number, frame):
  """Outside a training there is nothing to save, and every file is whole or not there.

  An exception raised here could be swallowed by whatever is running.
  """
  print("stopped by SIGTERM", file=sys.stderr)
  claims.release()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(0)


def _parse(main, arguments, description):
  """The keyword arguments that the flags stand for, all of them."""

  @functools.wraps(main.func)
  def collect(**keywords):
    return keywords

  collect.__signature__ = inspect.signature(main)
  flags.check(main.func, arguments, more=("budget", *_HOSTS))
  how, said = {"description": description, "config": (tyro.conf.OmitArgPrefixes,)}, io.StringIO()
  try:
    with contextlib.redirect_stderr(said):
      keywords, unknown = tyro.cli(collect, args=arguments, return_unknown_args=True, **how)
  except SystemExit as stop:
    if not stop.code:
      raise
    raise ValueError(flags.in_one_line(said.getvalue())) from None
  if unknown:
    raise ValueError(f"expected flags with their values, as --help has them, got {unknown[0]!r} beside them")
  return flag_bounds.check(module_of(main.func), keywords)


def _said(error: BaseException) -> str:
  """An error, and the command that it calls for, in one line."""
  return "; ".join([str(error), *getattr(error, "advice", ())])


def _take(arguments: list[str], flag: str) -> list[str]:
  """Takes a flag and its value out of the arguments, every time it is there; gives the values."""
  values, i = [], 0
  while i < len(arguments):
    if arguments[i] == flag:
      values.append(" ".join(arguments[i + 1 : i + 2]))
      del arguments[i : i + 2]
    elif arguments[i].startswith(f"{flag}="):
      values.append(arguments.pop(i).removeprefix(f"{flag}="))
    else:
      i += 1
  return values


def _fail(message: str):
  print(f"error: {printable(message)}", file=sys.stderr)
  sys.exit(2)
