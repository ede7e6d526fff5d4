"""A plain function as a command: every argument a flag, presets by `--budget`, one clear line for bad input."""

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import tyro

_PROJECT = Path(__file__).resolve().parent.parent


def run(main: Callable, budgets: Mapping[str, Mapping] | None = None):
  """Runs `main` with the flags of the command line.

  `--budget NAME` sets the defaults of a preset, before all else; flags given beside it win. An error that metajax or
  the experiment raises of its own is printed as one line, with exit status 2; any other keeps its traceback.

  Args:
    main: a function of keyword arguments with defaults.
    budgets: presets `{name: {argument: default}}`; the first is the one without `--budget`.
  """
  arguments, description = sys.argv[1:], (main.__doc__ or "").split("\n")[0]
  defaults = {}
  if budgets:
    name, arguments = _take_budget(arguments, next(iter(budgets)))
    if name not in budgets:
      _fail(f"expected --budget to be one of {', '.join(budgets)}, got {name!r}")
    defaults = budgets[name]
    description += f" Presets: --budget {'|'.join(budgets)}; the defaults below are those of {name!r}."
  keywords = _parse(functools.partial(main, **defaults), arguments, description)
  try:
    main(**keywords)
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
  except (ValueError, OSError, FloatingPointError) as error:
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    if not any(_PROJECT / part in raised_in.parents for part in ("metajax", "experiments")):
      raise
    _fail(str(error))


def command() -> str:
  """The command that was given, as one would type it."""
  module = getattr(sys.modules["__main__"], "__spec__", None)
  return " ".join(["python -m", module.name if module else Path(sys.argv[0]).stem, *sys.argv[1:]])


def _parse(main, arguments, description):
  """The keyword arguments that the flags stand for, all of them."""

  @functools.wraps(main.func)
  def collect(**keywords):
    return keywords

  collect.__signature__ = inspect.signature(main)
  keywords, unknown = tyro.cli(
    collect, args=arguments, description=description, config=(tyro.conf.OmitArgPrefixes,), return_unknown_args=True
  )
  if unknown:
    flags = [f"--{name.replace('_', '-')}" for name in _flags(keywords)]
    _fail(f"unknown flag {unknown[0]!r}: expected one of {', '.join(flags)}")
  return keywords


def _flags(keywords):
  for name, value in keywords.items():
    yield from value._fields if hasattr(value, "_fields") else (name,)


def _take_budget(arguments, default):
  for i, argument in enumerate(arguments):
    if argument == "--budget":
      return " ".join(arguments[i + 1 : i + 2]), arguments[:i] + arguments[i + 2 :]
    if argument.startswith("--budget="):
      return argument.removeprefix("--budget="), arguments[:i] + arguments[i + 1 :]
  return default, arguments


def _fail(message: str):
  print(f"error: {message}", file=sys.stderr)
  sys.exit(2)
