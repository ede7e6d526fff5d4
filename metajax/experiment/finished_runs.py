"""Finished runs: their configuration and their trained states."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import optax

from metajax.checkpoint import Checkpoints
from metajax.experiment import bounds, command_line, records
from metajax.experiment.configuration import configuration
from metajax.experiment.flags import LONGEST
from metajax.experiment.groups import group_of
from metajax.experiment.precision import resolved, set_precision
from metajax.experiment.run_folder import FLAGS_MUTABLE_ON_RESUME
from metajax.experiment.seeds import groups, seeds_of, side_by_side
from metajax.experiment.training import averaging
from metajax.experiment.types import RunFlags, Training
from metajax.paths import place
from metajax.train import TrainState, averaged, each_seed, restore
from metajax.types import Batches, Learner

OF_SEEDS = ("seed", "seeds", "seeds_in_parallel")


class FinishedRun(NamedTuple):
  """A run's folder, the module of its command, its config, and the contents of `run.json`."""

  folder: Path
  module: ModuleType
  config: Any
  configuration: dict

  @property
  def training(self) -> Training:
    """The training flags of the run."""
    return group_of(self.config, Training)


def read_run(folder: Path, modules: Sequence[str]) -> FinishedRun:
  """Reads a finished run.

  Args:
    folder: Folder of the run.
    modules: Names of modules that may be imported; no other module named by the folder is.

  Raises:
    OSError, ValueError: if the folder holds no run of these modules.
  """
  module = module_of(folder, modules)
  if not hasattr(module, "build"):
    raise ValueError(f"expected a run of an experiment in {str(folder)!r}, got a run of {module.__name__}")
  said = configuration(folder)
  try:
    config = command_line.parse(module.build, getattr(module, "PRESETS", None), said["arguments"])
    group_of(config, RunFlags), group_of(config, Training)
  except ValueError as error:
    raise ValueError(f"{error} (the run in {str(folder)!r})") from None
  return FinishedRun(place("the folder of a run", folder), module, config, said)


def module_of(folder: Path, modules: Sequence[str]) -> ModuleType:
  """Imports the module of a run's command.

  Raises:
    OSError, ValueError: as `configuration`, and if the module is not one of `modules`.
  """
  name = configuration(folder)["experiment"]
  if name not in modules:
    given = f"got a run of {name[:LONGEST]!r}, which it does not name"
    raise ValueError(f"expected --modules to name the module of the run in {str(folder)!r}, {given}")
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ValueError(f"expected an importable module {name!r}, got {error}") from None


def states_of(
  run: FinishedRun,
  learner: Learner,
  optimizer: optax.GradientTransformation,
  batches_of: Callable[[int], Batches],
  best: bool = True,
) -> list[TrainState]:
  """Restores the TrainState of each seed of a run.

  Args:
    run: Finished run.
    learner, optimizer: Learner and optimizer of the training, without its moving average.
    batches_of: `seed -> Batches` with the shapes of the training batches.
    best: Restore the step of the best validation score, instead of the last step.

  Raises:
    FileNotFoundError, ValueError: if the run has no such checkpoint, or it cannot be read.
  """
  flags, states = run.training, []
  optimizer = averaging(optimizer, flags.ema)
  in_parallel = run.configuration.get("seeds_at_once") or 1
  for part, seeds in groups(flags, in_parallel).items():
    batches, seed = side_by_side([batches_of(seed) for seed in seeds], seeds)
    with Checkpoints(run.folder / part / "checkpoints") as checkpoints:
      found = restore(learner, optimizer, batches, checkpoints, seed=seed, best=best)
    states += map(averaged, each_seed(found, seed))
  return states


def training_of(run: FinishedRun) -> tuple:
  """The flags that runs of one learner share, which is all but the seeds."""
  flags = bounds.flat(run.config._asdict())
  kept = sorted(
    (name, str(value)) for name, value in flags if name not in FLAGS_MUTABLE_ON_RESUME and name not in OF_SEEDS
  )
  return run.module.__name__, *kept


def same_learners(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
  """Groups the runs that differ only in their seeds, in the order given.

  Raises:
    ValueError: if two runs of a group have a seed in common.
  """
  learners = {}
  for run in runs:
    learners.setdefault(training_of(run), []).append(run)
  for same in learners.values():
    seeds = [seed for run in same for seed in seeds_of(run.training)]
    if len(set(seeds)) < len(seeds):
      raise ValueError(f"expected runs of one learner to differ in their seeds, got {seeds} in {same[0].folder}, ...")
  return list(learners.values())


def set_precision_of(runs: Sequence[FinishedRun]):
  """Sets the precision of matrix products to that of the runs on this backend, equal for all in a comparison.

  Raises:
    ValueError: if the runs have several precisions.
  """
  precisions = sorted({resolved(group_of(run.config, RunFlags).precision) for run in runs})
  if len(precisions) > 1:
    raise ValueError(f"expected runs of one --precision, got {' and '.join(precisions)}")
  set_precision(precisions[0])


def seconds_of(run: FinishedRun) -> float | None:
  """Training time of a run in seconds; None for a run that has not finished.

  Raises:
    ValueError: if the records lack the time.
  """
  path = run.folder / "records.json"
  found = records.read(path)
  took = found[0].get("train_seconds") if found else None
  if found and not isinstance(took, int | float):
    raise ValueError(f"expected train_seconds to be a number in {str(path)!r}, got {str(took)[:60]!r}")
  return took
