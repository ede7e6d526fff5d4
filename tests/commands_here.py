"""A command in this process, and what comes of it."""

import sys
from collections.abc import Callable

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


def as_main(module):
  """What a module does where it is run as the command."""
  main = driver.as_command(module.build) if hasattr(module, "build") else module.main
  command_line.command(main, getattr(module, "PRESETS", None))
