"""Tests finished few-shot runs at any setting, or on other data: train once, test anywhere.

python -m experiments.evaluate runs/prototypical-omniglot-20261124-101500 --ways 20 --shots 5     # a minute on 2 cores
python -m experiments.evaluate runs/maml-omniglot-* runs/anil-omniglot-*     # the same tasks, and paired differences
python -m experiments.evaluate runs/maml-omniglot-* runs/anil-omniglot-* --record     # adds them to the results page
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from experiments.families.data import slug
from experiments.families.few_shot import finished
from experiments.families.few_shot.config import Setup, settings_of
from experiments.families.few_shot.experiment import evaluator, images_of, load_part_for
from experiments.families.few_shot.finished import FewShotRun
from experiments.families.few_shot.predictors import Name, with_predictor
from experiments.families.few_shot.sizes import TaskSize, fitted, variable
from experiments.families.few_shot.tasks import VALIDATION_SEED, tasks_of
from experiments.families.image_flags import named_split, seen
from metajax.data import ImageDataset
from metajax.experiment import EvalMode, FewShot, Record, command, records
from metajax.experiment.bounds import Bounds, Count, DataName, RunPaths, Seed, TwoOrMore
from metajax.experiment.devices import on_devices
from metajax.experiment.evaluators.few_shot import TEST_SEED, check_curve, print_scores, test_all, test_pixels
from metajax.experiment.finished_runs import set_precision_of
from metajax.experiment.former_flags import also
from metajax.experiment.settings import Setting, is_variable
from metajax.types import Batches


class Test(NamedTuple):
  """A test: the size of its tasks, their batches and seed, the flags that select the data, and its images."""

  size: TaskSize
  batches: Batches
  seed: int
  setup: Setup
  source: ImageDataset

  @property
  def setting(self) -> Setting:
    """Ways and shots."""
    return self.size[:2]

  def of(self, modes: Sequence[EvalMode]) -> FewShot:
    """The evaluator of the given modes on this test."""
    tests = {self.setting: self.batches}
    found = evaluator(self.setup, modes, lambda: tests, lambda: (self.size,), lambda: self.source)
    return found._replace(test_seed=self.seed)


def main(
  folders: RunPaths,
  ways: Annotated[int | None, *TwoOrMore.__metadata__] = None,
  shots: Annotated[int | None, *Count.__metadata__] = None,
  queries: Count = 15,
  ways_up_to: Annotated[int | None, *TwoOrMore.__metadata__] = None,
  data: Annotated[str | None, DataName()] = None,
  split: str | None = None,
  num_tasks: Annotated[int, *TwoOrMore.__metadata__, *also("--tasks")] = 1000,
  seed: Seed = TEST_SEED,
  adaptation_curve: Annotated[int, Bounds(0, 1000), *also("--curve")] = 0,
  download: bool = False,
  skip_unreadable: Annotated[bool, *also("--skip-broken")] = False,
  devices: Annotated[int | None, *Count.__metadata__] = None,
  predictors: tuple[Name, ...] = (),
  record: bool = False,
  modules: tuple[str, ...] = (),
):
  """Tests finished few-shot runs on unseen classes, all on the same tasks.

  Runs that differ only in their seed count as one learner, with an interval over seeds. For several learners the
  command also prints the lead of the first one over each other one, with the interval of the paired difference.

  Args:
    folders: Folders of the runs.
    ways: Classes per test task; by default those of the first run's first test setting.
    shots: Support images per class in a test task; by default those of the first run's first test setting.
    queries: Query images per class in a test task of fixed ways and shots.
    ways_up_to: Most classes per test task of variable ways and shots (Meta-Dataset), in place of --ways and --shots.
    data: Data set to test on; by default that of the first run.
    split: Named split of the classes; by default that of the first run, unless --data names another data set.
    num_tasks: Number of test tasks.
    seed: Random seed of the test tasks; 2 gives the test tasks of the training runs.
    adaptation_curve: Length of the adaptation curve: accuracy after 0, 1, ... up to this many steps; 0 for no curve.
    download: Download TFDS data that is missing.
    skip_unreadable: Skip user-supplied files that cannot be read, instead of stopping.
    devices: Number of devices that share the tasks; by default all.
    predictors: Predictors on each run's features to test too; bd_cspn, laplacian_shot, tim, pt_map are transductive.
    record: Add the lead of each other learner over the first one, and of each predictor over its learner's own, to the
      results page.
    modules: Names of further Python modules to import, if the runs belong to custom experiments.
  """
  if not folders:
    raise ValueError("expected one or more run folders, got none")
  found = [finished.read(folder, modules) for folder in folders]
  set_precision_of([one.run for one in found])
  learners = finished.learners(found)
  _check(found, learners, adaptation_curve, record and not predictors)
  took = {same[0].run.folder: {"train_seconds": finished.seconds(same)} for same in learners if record}
  tests = {"test_queries": queries, "test_tasks": num_tasks, "adaptation_curve": adaptation_curve}
  setup = _setup(found[0].setup, data, split, tests, download=download, skip_unreadable=skip_unreadable)
  source = load_part_for(setup, "test")
  for one in found:
    finished.check_unseen(one, setup.data, source)
  test = _test_of(setup, source, _size(found[0].setup, ways, shots, queries, ways_up_to), seed)
  with on_devices(devices):
    written, differences = _test(learners, found, test, took, predictors)
  _write(written)
  if record:
    _publish(found, learners, differences, setup)


def _size(first: Setup, ways: int | None, shots: int | None, queries: int, ways_up_to: int | None) -> TaskSize:
  """The size of the test tasks, by default that of the first test of the first run."""
  fixed = ways is not None or shots is not None
  if ways_up_to is not None and fixed:
    raise ValueError(f"expected --ways-up-to or --ways and --shots, got {ways_up_to} beside {ways} and {shots}")
  of_run = settings_of(first)[0]
  if ways_up_to is not None or (is_variable(of_run) and not fixed):
    return variable(ways_up_to or of_run[0])
  of_run = (first.task.ways, first.task.shots) if is_variable(of_run) else of_run
  return TaskSize(ways or of_run[0], shots or of_run[1], queries)


def _check(found: list[FewShotRun], learners: list[list[FewShotRun]], adaptation_curve: int, record: bool):
  if record and len(learners) < 2:
    name = learners[0][0].tests.modes[0].name
    raise ValueError(f"expected several learners to record their differences, got {name} alone")
  first = images_of(found[0].setup)
  for one in found:
    check_curve(one.tests.modes, adaptation_curve)
    if images_of(one.setup).preprocessing != first.preprocessing:
      given = f"got {images_of(one.setup)} in {str(one.run.folder)!r} and {first} in {str(found[0].run.folder)!r}"
      raise ValueError(f"expected runs on images that are resized alike, {given}")


def _publish(found: list[FewShotRun], learners: list[list[FewShotRun]], differences: Sequence[Record], setup: Setup):
  beaten = found[0].tests.modes[0] if len(learners) < 2 else _named(learners[0], found)[0]
  name = f"ahead_of_{beaten.name}-{slug(setup.data)}"
  records.publish(records.home(main), name, [records.flat(one) for one in differences])


def _write(written: dict[Path, list[Record]]):
  """Writes the records of each learner; a folder that cannot be written is reported without an error."""
  for path, measured in written.items():
    try:
      records.write(path, [records.flat(one) for one in measured])
      print(f"\nrecords: {path}")
    except OSError as error:
      print(f"\nnot recorded: {error}")


def _setup(first: Setup, data: str | None, split: str | None, tests: dict, **other: Any) -> Setup:
  """The flags of the first run, updated with those of the command."""
  images = first.data._replace(**other)
  if data is not None and data != images.data:
    images = named_split(images, "")._replace(data=data)
  images = images if split is None else named_split(images, split)
  return first._replace(data=images, tests=first.tests._replace(**tests))


def _test_of(setup: Setup, source: ImageDataset, wanted: TaskSize, seed: int) -> Test:
  """The test of a size on the images of a test part, with fewer ways and queries if these are too few for it."""
  size = fitted(setup.data, "test", source, wanted)
  setup = setup._replace(tests=setup.tests._replace(test_queries=size.queries))
  return Test(size, tasks_of(source, *size, seed), seed, setup, source)


def _named(same: list[FewShotRun], found: list[FewShotRun], modes: Sequence[EvalMode] | None = None) -> list[EvalMode]:
  return [finished.named(mode, same[0], same, found) for mode in (same[0].tests.modes if modes is None else modes)]


def _modes(same: list[FewShotRun], found: list[FewShotRun], trained: list, test: Test) -> list[EvalMode]:
  """The modes of a learner, chosen by the validation tasks of this data if it has a choice."""
  tests = same[0].tests
  if tests.choose is None:
    return _named(same, found)
  source = load_part_for(test.setup, "validation")
  size = fitted(test.setup.data, "validation", source, test.size)
  validation = tasks_of(source, *size, VALIDATION_SEED, "validation")
  return _named(same, found, tests.modes_for(trained, test.setting, validation))


def _test(
  learners: list[list[FewShotRun]], found: list[FewShotRun], test: Test, took: dict, predictors: Sequence[Name]
) -> tuple[dict, list]:
  """Returns `{path: records}` of each learner, and the records of each learner's lead over the first one."""
  tasks, example = test.setup.tests.test_tasks, next(test.batches())
  pixels, scores, written, differences = test_pixels(test.batches, tasks), {}, {}, []
  first = _named(learners[0], found)
  # All runs are restored before the first test, so that an error shows immediately.
  for same, trained in [(same, finished.ready(same, example)) for same in learners]:
    modes, folder = _modes(same, found, trained, test), same[0].run.folder
    first = modes if same is learners[0] else first
    others = _with_predictors(modes[0], predictors, same[0].setup)
    stages = modes[1:] if same[0].tests.choose else []
    mine = test_all([*modes, *others], trained, test.batches, tasks)
    scores |= mine
    chosen, runs = [int(one.step) for one in trained], " ".join(str(one.run.folder) for one in same)
    said: dict[str, Any] = {"chosen_step": chosen, "run": runs, "test_seed": test.seed}
    said |= {"steps": same[0].setup.training.steps, "train_seconds": 0}
    few_shot, seed = test.of([*modes, *others]), same[0].setup.training.seed
    measured: list[Record] = few_shot.records(test.setting, mine | pixels, said, seed)
    measured += few_shot.curves((test.setting, test.batches), trained, said, seed)
    ahead = few_shot.differences(modes[:1], [*stages, *others], scores, test.setting, said | took.get(folder, {}), seed)
    measured, differences = measured + ahead, differences + ahead * bool(took)
    if same is not learners[0] and took:
      more = said | took[folder]
      differences += few_shot.differences(first, modes, scores, test.setting, more, seed)
    written[folder / time.strftime(f"evaluation-%Y%m%d-%H%M%S-{os.getpid()}.json")] = measured
    _print_leads(modes[0], ahead)
  chance, shown = test.of(first).chance_at(test.setting), scores | pixels
  print_scores(test.setting, shown, tasks, test.size.queries, not seen(test.setup.data), chance)
  return written, differences


def _with_predictors(mode: EvalMode, names: Sequence[Name], setup: Setup) -> list[EvalMode]:
  """The mode with each of the predictors; training images are loaded only for these."""
  if not names:
    return []
  training = load_part_for(setup, "train")
  return [with_predictor(mode, name, training) for name in names]


def _print_leads(own: EvalMode, ahead: Sequence[Record]):
  for one in ahead:
    how = " (transductive)" * one.about.get("transductive", False)
    print(f"{one.name}{how}: {one.value:+.2f} ± {one.interval:.2f} points over {own.title}, paired by task")


if __name__ == "__main__":
  command(main)
