"""Runs that have ended, read again: what they are, and what they have learned."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import optax

from metajax.checkpoint import Checkpoints
from metajax.experiment import bounds, command_line, records
from metajax.experiment.configuration import configuration
from metajax.experiment.flags import LONGEST
from metajax.experiment.groups import group_of
from metajax.experiment.run_folder import RESUMABLE_FLAGS
from metajax.experiment.seeds import groups, seeds_of, side_by_side
from metajax.experiment.types import RunFlags, Training
from metajax.train import TrainState, each_seed, restore
from metajax.types import Batches, Learner

OF_SEEDS = ("seed", "seeds", "seeds_in_parallel")


class FinishedRun(NamedTuple):
  """A run's folder, the module of its command, its config, and what `run.json` says."""

  folder: Path
  module: ModuleType
  config: Any
  configuration: dict

  @property
  def training(self) -> Training:
    """How long and how often it trained."""
    return group_of(self.config, Training)


def read_run(folder: Path, modules: Sequence[str]) -> FinishedRun:
  """The run in a folder.

  Args:
    folder: of the run.
    modules: those that may be imported; never another that the folder names.

  Raises:
    OSError, ValueError: if there is no run of one of these.
  """
  module = module_of(folder, modules)
  if not hasattr(module, "build"):
    raise ValueError(f"expected a run of an experiment in {str(folder)!r}, got one of {module.__name__}")
  said = configuration(folder)
  try:
    config = command_line.parse(module.build, getattr(module, "PRESETS", None), said["arguments"])
    group_of(config, RunFlags), group_of(config, Training)
  except ValueError as error:
    raise ValueError(f"{error} (the run in {str(folder)!r})") from None
  return FinishedRun(Path(folder), module, config, said)


def module_of(folder: Path, modules: Sequence[str]) -> ModuleType:
  """The module of a run's command.

  Raises:
    OSError, ValueError: as `configuration`, and if it is none of these.
  """
  name = configuration(folder)["experiment"]
  if name not in modules:
    given = f"got {name[:LONGEST]!r}, which --modules would have to name"
    raise ValueError(f"expected a run of a command of experiments in {str(folder)!r}, {given}")
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ValueError(f"expected a module {name!r} that can be imported, got {error}") from None


def states_of(
  run: FinishedRun,
  learner: Learner,
  optimizer: optax.GradientTransformation,
  batches_of: Callable[[int], Batches],
  best: bool = True,
) -> list[TrainState]:
  """The TrainState of each of a run's seeds: of the best validation, or of the last step.

  Args:
    run: of a finished run.
    learner, optimizer: those that it was trained with.
    batches_of: `seed -> Batches` like those that it was trained on, of which the shapes matter.
    best: which one.

  Raises:
    FileNotFoundError, ValueError: if the run has not got so far, or cannot be read.
  """
  flags, states = run.training, []
  in_parallel = run.configuration.get("seeds_at_once") or 1
  for part, seeds in groups(flags, in_parallel).items():
    batches, seed = side_by_side([batches_of(seed) for seed in seeds], seeds)
    with Checkpoints(run.folder / part / "checkpoints") as checkpoints:
      found = restore(learner, optimizer, batches, checkpoints, seed=seed, best=best)
    states += each_seed(found, seed)
  return states


def training_of(run: FinishedRun) -> tuple:
  """What a run has in common with runs that differ in their seed alone."""
  flags = bounds.flat(run.config._asdict())
  kept = sorted((name, str(value)) for name, value in flags if name not in RESUMABLE_FLAGS and name not in OF_SEEDS)
  return run.module.__name__, *kept


def same_learners(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
  """The runs, those that differ in their seed alone together, in the order given.

  Raises:
    ValueError: if two of these have a seed in common.
  """
  learners = {}
  for run in runs:
    learners.setdefault(training_of(run), []).append(run)
  for same in learners.values():
    seeds = [seed for run in same for seed in seeds_of(run.training)]
    if len(set(seeds)) < len(seeds):
      raise ValueError(f"expected runs of one learner to differ in their seeds, got {seeds} in {same[0].folder}, ...")
  return list(learners.values())


def set_precision(runs: Sequence[FinishedRun]):
  """Sets that of the runs; what is compared must have one.

  Raises:
    ValueError: if they have several.
  """
  precisions = sorted({group_of(run.config, RunFlags).precision for run in runs})
  if len(precisions) > 1:
    raise ValueError(f"expected runs of one --precision, got {' and '.join(precisions)}")
  jax.config.update("jax_default_matmul_precision", precisions[0])


def seconds_of(run: FinishedRun) -> float | None:
  """What a run took to train; None of one that has not ended.

  Raises:
    ValueError: if its records do not say.
  """
  path = run.folder / "records.json"
  found = records.read(path)
  took = found[0].get("train_seconds") if found else None
  if found and not isinstance(took, int | float):
    raise ValueError(f"expected train_seconds to be a number in {str(path)!r}, got {str(took)[:60]!r}")
  return took
