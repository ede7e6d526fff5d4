"""How tests run a command in their own process."""

from types import ModuleType

from metajax.experiment import command_line, driver


def run_command(module: ModuleType):
  """What the module does where it is run as the command, with the flags of `sys.argv`."""
  if hasattr(module, "build"):
    driver.main(module.build, getattr(module, "PRESETS", None))
  else:
    command_line.command(module.main)
