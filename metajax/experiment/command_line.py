"""A command line: every flag of a config or a function, presets by `--preset`, one clear line for bad input."""

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
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import jax
import tyro

from metajax.experiment import bounds, claims, flags, former_flags, help, weighted
from metajax.experiment.configuration import configuration
from metajax.experiment.several_hosts import HOST_FLAGS, as_one_of_several, fail, joins_others, quiet_where_nobody_reads
from metajax.mesh import check_same_on_hosts, split_cpu
from metajax.paths import place
from metajax.train import Stopped

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # what is no fault of a program
_DISK |= {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
PRESET = ("--preset", "--budget")  # the flag, and its name in recorded commands
_LIBRARY = Path(__file__).resolve().parent.parent


def command(main: Callable, presets: Mapping[str, Any] | None = None, *, on_hosts: bool = True):
  """Runs `main` with the flags of the command line, in a `session`.

  Args:
    main: a function of flags, keyword arguments with defaults, or of one config.
    presets: of a function of a config: `{name: config}`; the first is the one without `--preset`.
    on_hosts: Whether several hosts can run the command together.
  """
  with session(main, presets, on_hosts=on_hosts) as given:
    if isinstance(given, dict):
      main(**given)
    else:
      main(given)


@contextlib.contextmanager
def session(
  main: Callable, presets: Mapping[str, Any] | None = None, *, on_hosts: bool = True
) -> Generator[Any, None, None]:
  """Gives what the flags of the command line stand for, and looks after whatever is done with it.

  `--preset NAME` (or `--budget NAME`) sets the defaults of a preset, before all else; flags given beside it win. With
  `--folder RUN --resume` the flags of that run come first. An error that metajax or the command raises of its own is
  printed as one line, with exit status 2; any other keeps its traceback. A run that SIGTERM stopped ends with 0, one
  that Ctrl-C stopped with 130. Compiled programs are kept for the next run.

  `--coordinator ADDRESS:PORT --hosts N --host I` (or METAJAX_COORDINATOR, METAJAX_HOSTS and METAJAX_HOST) make this
  process one of several that run the command together; on TPU pods and under SLURM they find each other.
  `--dead-after` says after how many seconds without a sign of life a host ends the others.

  Args:
    main: whose flags they are, as for `command`.
    presets, on_hosts: as for `command`.
  """
  if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", str(_cache()))
  _split_cpu()
  with as_one_of_several() if on_hosts and joins_others() else _alone(), _errors_in_one_line(main):
    before = _arguments_of_the_run()
    sys.argv[1:1] = _preset_of_this_machine(presets or {}, before)
    given = parse(main, presets, [*before, *sys.argv[1:]], on_hosts=on_hosts)
    flat = dict(bounds.flat(given if isinstance(given, dict) else given._asdict()))
    check_same_on_hosts({f"--{flags.dashed(name)}": str(value) for name, value in flat.items()})
    bounds.check_devices(given if isinstance(given, dict) else given._asdict())
    yield given


def _split_cpu():
  """Divides the CPU into as many devices as `--devices` says, by default one a core; a host has its share of them."""
  arguments = sys.argv[1:]
  with contextlib.suppress(OSError, ValueError):  # reported later, when other hosts need not wait for this one
    arguments = [*_arguments_of_the_run(), *arguments]
  devices = flags.take(arguments, "--devices")[-1:] or [""]
  hosts = flags.take(arguments, "--hosts")[-1:] or [os.environ.get("METAJAX_HOSTS", "1")]
  numbers = [int(given) for (given,) in (devices, hosts) if re.fullmatch("[1-9][0-9]{0,3}", given)]
  split_cpu(max(1, numbers[0] // numbers[1]) if len(numbers) == 2 else None)


@contextlib.contextmanager
def _alone():
  """This process as the only one: SIGTERM ends it at once, and no name of a file because it cannot be printed."""
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")
  before = signal.signal(signal.SIGTERM, _end)
  signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with quiet_where_nobody_reads():
      yield
  finally:
    signal.signal(signal.SIGTERM, before)


def _cache() -> Path:
  """Where compiled programs are kept: beside a checkout of metajax, or with the caches of whoever runs it."""
  if (_LIBRARY.parent / "pyproject.toml").is_file():
    return _LIBRARY.parent / ".cache" / "jax"
  return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metajax" / "jax"


@contextlib.contextmanager
def _errors_in_one_line(main: Callable):
  """Ends the process with one line and a status where what went wrong is no fault of a program."""
  try:
    yield
  except BrokenPipeError:
    raise
  except Stopped as stopped:
    print(_said(stopped), file=sys.stderr)
    sys.exit(0 if stopped.reason == "SIGTERM" else 130)
  except KeyboardInterrupt as interruption:
    print("; ".join(["interrupted", *getattr(interruption, "advice", ())]), file=sys.stderr)
    sys.exit(130)
  except (ValueError, OSError, FloatingPointError) as error:
    if isinstance(error, OSError) and error.errno in _DISK:
      fail(f"{error.strerror}: {error.filename or 'a file of the run'}")
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    if not {_LIBRARY, Path(inspect.getfile(inspect.unwrap(main))).resolve().parent} & set(raised_in.parents):
      raise
    fail(_said(error))
  finally:
    claims.release()


def parse(main: Callable, presets: Mapping[str, Any] | None, arguments: Sequence[str], *, on_hosts: bool = True) -> Any:
  """What the arguments of a command line stand for: a config, or the keyword arguments of a function of flags.

  Raises:
    ValueError: if there is no such flag or preset, or one has a value that it may not have.
  """
  config = config_of(main)
  arguments = weighted.apart(config or main, former_flags.current(config or main, arguments))
  default = chosen = None
  if presets:
    names = flags.take(arguments, *PRESET) or [next(iter(presets))]
    if names[-1] not in presets:
      raise ValueError(f"expected --preset to be one of {', '.join(presets)}, got {names[-1]!r}")
    default, chosen = presets[names[-1]], names[-1]
  how: dict[str, Any] = {"config": (tyro.conf.OmitArgPrefixes,)} | ({} if default is None else {"default": default})
  how["prog"] = " ".join(_invocation())
  how["description"] = (inspect.getdoc(config or main) or "").split("\n")[0]
  made = config or _collected(main)
  flags.check(config or main, arguments, more=["preset"] * bool(presets) + list(HOST_FLAGS) * on_hosts)
  if not set(flags.HELP).isdisjoint(arguments):
    print(help.text(made, presets, chosen, on_hosts=on_hosts, **how), end="")
    sys.exit(0)
  found = _parsed(made, arguments, **how)
  checked = bounds.check(flags.hints_of(config or main), found if config is None else found._asdict())
  return checked if config is None else config(**checked)


def config_of(main: Callable) -> type | None:
  """The config that a command's function takes; None if its arguments are the flags."""
  kinds = [kind for name, kind in get_type_hints(inspect.unwrap(main)).items() if name != "return"]
  return kinds[0] if len(kinds) == 1 and hasattr(kinds[0], "_fields") else None


def module_of(main: Callable) -> str:
  """The name of the module that a command's function is of, also where that module runs as the command."""
  return _running() if main.__module__ == "__main__" else main.__module__


def typed() -> str:
  """The command that makes a run like this one, as one would type it."""
  return shlex.join([*_invocation(), *arguments()])


def arguments() -> list[str]:
  """The command's arguments, after those of the run that is gone on with; but not which folder it has."""
  left = [argument for argument in sys.argv[1:] if argument != "--resume"]
  flags.take(left, "--folder")
  before = _arguments_of_the_run()
  if _resumes() and (steps := flags.take([*left], "--steps")):  # a longer run is a run of that many steps
    before = flags.with_value(before, "--steps", steps[-1])
    if left != before[-len(left) :]:
      flags.take(left, "--steps")
  return before if left == before[-len(left) :] else [*before, *left]


def resumes_without(flag: str) -> bool:
  """Returns whether the command line resumes a run and leaves a flag as the run has it."""
  return _resumes() is not None and not flags.take(sys.argv[1:], flag)


def _invocation() -> list[str]:
  """The words before the arguments: of the console script, or of a module."""
  return sys.argv[0].split() if sys.argv[0].startswith("metajax ") else ["python", "-m", _running()]


def _running() -> str:
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  return spec.name if spec else Path(sys.argv[0]).stem


def _arguments_of_the_run() -> list[str]:
  """What the run was started with that is to be gone on with."""
  folder = _resumes()
  return configuration(folder)["arguments"] if folder else []


def _resumes() -> Path | None:
  """The folder of the run that is resumed."""
  folder = flags.take(sys.argv[1:], "--folder")
  found = place("--folder", folder[-1]) if folder and "--resume" in sys.argv else None
  return found if found and (found / "run.json").is_file() else None


def _preset_of_this_machine(presets: Mapping[str, Any], before: Sequence[str]) -> list[str]:
  """`--preset NAME`, where the command line has none: "cpu" without an accelerator, else the first, "paper".

  `--compile-for` speaks of machines with accelerators.

  A resumed run keeps its preset; runs of earlier versions that name none had the first.
  """
  if not presets or flags.take([*before, *sys.argv[1:]], *PRESET):
    return []
  elsewhere = _resumes() or bool(flags.take(sys.argv[1:], "--compile-for"))
  small = "cpu" in presets and not elsewhere and jax.default_backend() == "cpu"
  return ["--preset", "cpu" if small else next(iter(presets))]


def _end(number, frame):
  """Outside a training there is nothing to save, and every file is whole or not there.

  An exception raised here could be swallowed by whatever is running.
  """
  print("stopped by SIGTERM", file=sys.stderr)
  claims.release()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(0)


def _collected(main: Callable) -> Callable:
  """A function of the same flags, which gives them."""

  @functools.wraps(main)
  def collect(**keywords):
    return keywords

  return collect


def _parsed(made: Callable, arguments: Sequence[str], **how: Any) -> Any:
  """What `made` makes of the flags."""
  said = io.StringIO()
  try:
    with contextlib.redirect_stderr(said):
      found, unknown = tyro.cli(made, args=arguments, return_unknown_args=True, **how)
  except SystemExit as stop:
    if not stop.code:
      raise
    raise ValueError(flags.in_one_line(said.getvalue())) from None
  if unknown:
    raise ValueError(f"expected flags with their values, as --help has them, got {unknown[0]!r} beside them")
  return found


def _said(error: BaseException) -> str:
  """An error, and the command that it calls for, in one line."""
  return "; ".join([str(error), *getattr(error, "advice", ())])
