"""Runs made longer: `--folder RUN --resume --steps MORE` trains a finished or a stopped run up to more steps.

The run goes on from its last checkpoint with the same batches, parameters and optimizer state. Constant learning rates
make it equal to a run of that many steps from the start; schedules that span the training are recomputed for the new
number of steps. A validation after the former last step remains a candidate for the best step.
"""

import shlex
from pathlib import Path

from metajax.checks import counted
from metajax.experiment import command_line, flags
from metajax.experiment.parts import checkpointed_step, parts_of
from metajax.mesh import is_primary_host
from metajax.paths import exists, move

STEPS = "steps"  # the field of `Training`
FLAG = f"--{STEPS}"


def trained_steps(folder: Path) -> int:
  """The largest step of a complete checkpoint in any part of a run; 0 without one."""
  return max(map(checkpointed_step, parts_of(folder)), default=0)


def may_change(folder: Path, was: object, steps: int) -> bool:
  """Returns whether a resumed run may have another number of steps.

  A run keeps its number unless `--steps` is given: the default, or that of a preset, may have changed since.

  Args:
    folder: Folder of the run.
    was: Number of steps in `run.json`.
    steps: Number of steps now.

  Raises:
    ValueError: if the run has trained for more steps.
  """
  if type(was) is not int or command_line.resumes_without(FLAG):
    return False
  trained = trained_steps(folder)
  if steps < trained:
    raise ValueError(f"expected {FLAG} to be at least {trained}, which {str(folder)!r} has trained, got {steps}")
  return True


def with_steps(folder: Path, configuration: dict, steps: int) -> dict:
  """Returns the configuration of a resumed run for a number of steps, and reports a change of the number.

  Records of another number of steps are renamed, as they are no longer those of the run: `records-20-steps.json`.

  Args:
    folder: Folder of the run.
    configuration: Contents of its `run.json`.
    steps: Number of steps from now on.
  """
  was = configuration["flags"].get(STEPS, steps)
  if was == steps and command_line.resumes_without(FLAG):
    return configuration
  arguments = flags.with_value(configuration["arguments"], FLAG, str(steps))
  command = shlex.join(["python", "-m", configuration["experiment"], *arguments])
  if was != steps:
    _rename_records(folder, was)
    print(
      f"{counted(was, 'step')} changed to {steps:,}: schedules over all steps, such as a cosine, are recomputed, so a "
      "decayed learning rate may rise again"
    )
  changed = {"arguments": arguments, "command": command, "flags": configuration["flags"] | {STEPS: steps}}
  return configuration | changed


def _rename_records(folder: Path, steps: int):
  path = folder / "records.json"
  if is_primary_host() and exists(path):
    move(path, folder / f"records-{steps}-steps.json")
