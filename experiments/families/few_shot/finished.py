"""Few-shot runs that have ended, read again to be tested."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import experiments
from experiments.families.data import ImageData, load_part
from experiments.families.few_shot.config import Setup
from experiments.families.few_shot.experiment import check_fits_test
from metajax.data import ImageDataset
from metajax.experiment import EvalMode, Experiment, FewShot, FinishedRun, read_run, states_of
from metajax.experiment.finished_runs import same_learners, seconds_of
from metajax.experiment.groups import group_of, groups_of
from metajax.train import TrainState
from metajax.types import Episode


class FewShotRun(NamedTuple):
  """A finished run, the flags that all have, its experiment, and its few-shot tests."""

  run: FinishedRun
  setup: Setup
  experiment: Experiment
  tests: FewShot


def read(folder: Path, modules: Sequence[str] = ()) -> FewShotRun:
  """The run in a folder.

  Args:
    folder: of the run.
    modules: of experiments that it may be of, beside those of this package.

  Raises:
    OSError, ValueError: if there is none, or it is no few-shot run.
  """
  run = read_run(folder, (*experiments.commands(), *modules))
  if not groups_of(run.config, Setup):
    raise ValueError(f"expected a few-shot run, got one of {run.module.__name__} in {str(folder)!r}")
  experiment = run.module.build(run.config)
  return FewShotRun(
    run, group_of(run.config, Setup), experiment, next(one for one in experiment.evaluate if isinstance(one, FewShot))
  )


def check_unseen(found: FewShotRun, data: ImageData, test: ImageDataset):
  """Refuses test classes that the run was trained or chosen on, where the data are its own in another split."""
  own = found.setup.data
  if own.data != data.data or own.split == data.split:
    return
  seen = {name for part in ("train", "validation") for name in load_part(own, part).classes}
  if shared := seen.intersection(test.classes):
    given = f"{len(shared)} of {len(test.classes)} that were, such as {min(shared)!r}"
    raise ValueError(f"expected test classes that the run in {str(found.run.folder)!r} was not trained on, got {given}")


def learners(found: Sequence[FewShotRun]) -> list[list[FewShotRun]]:
  """The runs, those that differ in their seed alone together, in the order given.

  Raises:
    ValueError: if two of these have a seed in common.
  """
  whole = {id(one.run): one for one in found}
  return [[whole[id(run)] for run in same] for same in same_learners([one.run for one in found])]


def seconds(same: Sequence[FewShotRun]) -> float:
  """What the runs of a learner took to train, all together, as they recorded it.

  Raises:
    ValueError: if one has not ended, and has no records.
  """
  total = 0
  for one in same:
    took = seconds_of(one.run)
    if took is None:
      raise ValueError(f"expected runs that have ended, got one without records in {str(one.run.folder)!r}")
    total += took
  return total


def named(mode: EvalMode, one: FewShotRun, same: Sequence[FewShotRun], found: Sequence[FewShotRun]) -> EvalMode:
  """The way to use a run, whose name says the run's where other learners have the same."""
  others = [other for other in found if not any(other is own for own in same)]
  alike = any(mode.title == own.title for other in others for own in other.tests.modes)
  return mode._replace(variant=(*mode.variant, one.run.folder.name)) if alike else mode


def ready(same: Sequence[FewShotRun], example: Episode) -> list[TrainState]:
  """What the runs of a learner have learned, of which it is known that it can be tested like this."""
  try:
    trained = [state for one in same for state in _states(one, example)]
    check_fits_test(same[0].tests.modes, (trained[0].params, trained[0].state), example)
    return trained
  except ValueError as error:
    raise ValueError(f"{error} (the run in {str(same[0].run.folder)!r})") from None


def _states(one: FewShotRun, example: Episode) -> list[TrainState]:
  """The chosen TrainState of each of the run's seeds. Initializing needs no more of a batch than its shapes."""
  experiment = one.experiment
  of_tasks = lambda seed: lambda start=0, shard=(0, 1): iter([example])
  batches = of_tasks if one.tests.trained_on_tasks else experiment.train_batches
  return states_of(one.run, experiment.learner, experiment.optimizer, batches)
