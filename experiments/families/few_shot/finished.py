"""Finished few-shot runs, read for further tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import experiments
from experiments.families.data import ImageData, load_part
from experiments.families.few_shot.config import Setup
from experiments.families.few_shot.experiment import check_fits_test
from experiments.families.image_flags import same_parts
from metajax.data import ImageDataset
from metajax.experiment import EvalMode, Experiment, FewShot, FinishedRun, read_run, states_of
from metajax.experiment.finished_runs import same_learners, seconds_of
from metajax.experiment.groups import group_of, groups_of
from metajax.train import TrainState
from metajax.types import Episode


class FewShotRun(NamedTuple):
  """A finished run, its shared flags, its experiment, and its few-shot evaluator."""

  run: FinishedRun
  setup: Setup
  experiment: Experiment
  tests: FewShot


def read(folder: Path, modules: Sequence[str] = ()) -> FewShotRun:
  """Reads a few-shot run.

  Args:
    folder: Folder of the run.
    modules: Names of modules with custom experiments, in addition to those of this package.

  Raises:
    OSError, ValueError: if the folder holds no few-shot run.
  """
  run = read_run(folder, (*experiments.commands(), *modules))
  if not groups_of(run.config, Setup):
    given = f"got one of {run.module.__name__} in {str(folder)!r}"
    raise ValueError(f"expected a few-shot run, with the flags of experiments.maml and others, {given}")
  experiment = run.module.build(run.config)
  return FewShotRun(
    run, group_of(run.config, Setup), experiment, next(one for one in experiment.evaluate if isinstance(one, FewShot))
  )


def check_unseen(found: FewShotRun, data: ImageData, test: ImageDataset):
  """Refuses test classes from the run's training or validation part, if its data set is tested in another split.

  A run that was trained on all classes may be tested on the images that it held out.

  Raises:
    ValueError: naming a shared class.
  """
  own = found.setup.data
  if own.data != data.data or same_parts(own, data):
    return
  seen = {name for part in ("train", "validation") for name in load_part(own, part).classes}
  if shared := seen.intersection(test.classes):
    given = f"{len(shared)} of {len(test.classes)} seen classes, such as {min(shared)!r}"
    raise ValueError(f"expected test classes unseen by the run in {str(found.run.folder)!r}, got {given}")


def learners(found: Sequence[FewShotRun]) -> list[list[FewShotRun]]:
  """Groups the runs that differ only in their seeds, in the order given.

  Raises:
    ValueError: if two runs of a group have a seed in common.
  """
  whole = {id(one.run): one for one in found}
  return [[whole[id(run)] for run in same] for same in same_learners([one.run for one in found])]


def seconds(same: Sequence[FewShotRun]) -> float:
  """Total training time of the runs of a learner in seconds, from their records.

  Raises:
    ValueError: if a run has no records, as it has not finished.
  """
  total = 0
  for one in same:
    took = seconds_of(one.run)
    if took is None:
      raise ValueError(f"expected finished runs, got one without records in {str(one.run.folder)!r}")
    total += took
  return total


def named(mode: EvalMode, one: FewShotRun, same: Sequence[FewShotRun], found: Sequence[FewShotRun]) -> EvalMode:
  """The mode, with the run's folder in its variant if another learner has the same title."""
  others = [other for other in found if not any(other is own for own in same)]
  alike = any(mode.title == own.title for other in others for own in other.tests.modes)
  return mode._replace(variant=(*mode.variant, one.run.folder.name)) if alike else mode


def ready(same: Sequence[FewShotRun], example: Episode) -> list[TrainState]:
  """The trained states of a learner's runs, after checking that they can be tested on tasks like `example`."""
  try:
    trained = [state for one in same for state in _states(one, example)]
    check_fits_test(same[0].tests.modes, (trained[0].params, trained[0].state), example)
    return trained
  except ValueError as error:
    raise ValueError(f"{error} (the run in {str(same[0].run.folder)!r})") from None


def _states(one: FewShotRun, example: Episode) -> list[TrainState]:
  """The selected TrainState of each seed of the run. Initialization uses only the shapes of a batch."""
  experiment = one.experiment
  of_tasks = lambda seed: lambda start=0, shard=(0, 1): iter([example])
  batches = of_tasks if one.tests.trained_on_tasks else experiment.train_batches
  return states_of(one.run, experiment.learner, experiment.optimizer, batches)
