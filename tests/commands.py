"""A command in this process, and what comes of it."""

import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from metajax.experiment import command_line, driver


def run(
  patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture, name: str, main: Callable[[], object], *arguments: str
) -> tuple[int, str, str]:
  """`main` where a command line gives these arguments: (its status, its standard output, its standard error)."""
  patch.setattr(sys, "argv", [name, *arguments])
  try:
    main()
    status = 0
  except SystemExit as stop:
    status = stop.code
  return status, *captured.readouterr()


def run_command(module: ModuleType):
  """What a module does where it is run as the command, with the flags of `sys.argv`."""
  if hasattr(module, "build"):
    driver.main(module.build, getattr(module, "PRESETS", None))
  else:
    command_line.command(module.main)
