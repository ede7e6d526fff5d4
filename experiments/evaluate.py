"""Tests what runs have learned at any setting, or on other data: train once, test anywhere.

python -m experiments.evaluate runs/prototypical-omniglot-20261124-101500 --ways 20 --shots 5     # a minute on 2 cores
python -m experiments.evaluate runs/maml-omniglot-* runs/anil-omniglot-*     # the same tasks, and paired differences
"""

import time
from pathlib import Path
from typing import NamedTuple

import jax
from tyro.conf import Positional

from experiments import command_line, few_shot, few_shot_data, records, runs
from experiments.few_shot_scores import Tested, check_curve, curve_records, records_of, tell, test_all, test_pixels
from metajax import make_mesh
from metajax.checkpoint import Checkpoints
from metajax.data import Source
from metajax.train import TrainState, each_seed, restore


class _Run(NamedTuple):
  folder: Path
  made: few_shot.Method
  setting: few_shot.Setting
  training: tuple  # what it has in common with runs that differ in their seed alone
  precision: str


def main(
  folders: Positional[tuple[Path, ...]],
  ways: int | None = None,
  shots: int | None = None,
  queries: int = 15,
  data: str | None = None,
  split: str | None = None,
  tasks: int = 1000,
  seed: int = few_shot.TEST_SEED,
  curve: int = 0,
  download: bool = False,
  skip_broken: bool = False,
  devices: int | None = None,
):
  """Tests the chosen parameters of few-shot runs on unseen classes, all on the same tasks.

  Runs that differ in their seed alone are one learner, with an interval over seeds. Of several learners it also prints
  by how much the first is ahead of each other one, with the interval of the paired difference.

  Args:
    folders: the runs' folders.
    ways: classes of a test task; by default those of the first run's first test setting.
    shots: support pictures of each class; by default likewise.
    queries: query pictures of each class.
    data: other data, as for a run's own --data.
    split: a named split of the data's classes; the first run's own by default, where the data are its.
    tasks: test tasks.
    seed: of the test tasks; 2 gives those of the runs themselves.
    curve: measure the accuracy after 0, 1, ... to this many adaptation steps.
    download: let TFDS download data that is not there.
    skip_broken: leave out files of one's own that cannot be read.
    devices: devices to share the tasks; by default all.
  """
  if not folders:
    raise ValueError("expected the folder of a run, or of several, got none")
  found = [_read(folder) for folder in folders]
  _set_precision(found)
  for run in found:
    check_curve(run.made.tested, curve)
  first = found[0].setting
  at = few_shot.tests_of(first)[0]
  test = (at[0] if ways is None else ways, at[1] if shots is None else shots)
  other = {"download": download, "skip_broken": skip_broken, "test_queries": queries, "test_tasks": tasks}
  s = first._replace(curve=curve, **other)
  if data is not None and data != s.data:
    s = s._replace(data=data, split="")
  s = s if split is None else s._replace(split=split)
  source = few_shot_data.load_part(s, "test")
  for run in found:
    _check_unseen(run, s, source)
  batches = few_shot.test_batches(source, *test, queries, seed)
  example = next(batches())
  written = []
  with jax.set_mesh(make_mesh(devices)):
    pixels, scores = test_pixels(batches, tasks), {}
    # All of them before any is tested: what cannot be is known at once.
    for same, trained in [(same, _ready(same, example)) for same in _learners(found)]:
      ways_to_use = [_named(way, same[0], found) for way in same[0].made.tested]
      mine = test_all(ways_to_use, trained, batches, tasks)
      scores |= mine
      how = {"chosen_step": [int(one.step) for one in trained], "run": " ".join(str(run.folder) for run in same)}
      how |= {"test_seed": seed, "steps": same[0].setting.steps, "train_seconds": 0}
      of = s._replace(seed=same[0].setting.seed, seeds=len(trained))
      measured = records_of(test, mine | pixels, of, how) + curve_records(
        ways_to_use, trained, (test, batches), of, how
      )
      written.append((same[0].folder / time.strftime("evaluation-%Y%m%d-%H%M%S.json"), measured))
  tell(test, scores | pixels, tasks, queries)
  for path, measured in written:
    try:
      records.write(path, measured)
      print(f"\nrecords: {path}")
    except OSError as error:
      print(f"\nnot recorded: {error}")


def _read(folder: Path) -> _Run:
  module, flags = runs.flags_of(folder)
  if not hasattr(module, "method"):
    raise ValueError(f"expected a few-shot run, got one of {module.__name__} in {str(folder)!r}")
  said = runs.configuration(folder)["flags"]
  free = runs.FREE | {"seed", "seeds", "seeds_at_once"}
  training = module.__name__, *sorted((name, str(value)) for name, value in said.items() if name not in free)
  return _Run(folder, module.method(**flags), flags["setting"], training, flags["run"].precision)


def _set_precision(found: list[_Run]):
  """That of the runs; what is compared must have one."""
  precisions = sorted({run.precision for run in found})
  if len(precisions) > 1:
    raise ValueError(f"expected runs of one --precision, got {' and '.join(precisions)}")
  jax.config.update("jax_default_matmul_precision", precisions[0])


def _check_unseen(run: _Run, s: few_shot.Setting, test: Source):
  """Refuses test classes that the run was trained or chosen on, where the data are its own in another split."""
  own = run.setting
  if own.data != s.data or own.split == s.split:
    return
  seen = {name for part in ("train", "validation") for name in few_shot_data.load_part(own, part).classes}
  if shared := seen.intersection(test.classes):
    given = f"{len(shared)} of {len(test.classes)} that were, such as {min(shared)!r}"
    raise ValueError(f"expected test classes that the run in {str(run.folder)!r} was not trained on, got {given}")


def _learners(found: list[_Run]) -> list[list[_Run]]:
  """The runs, those that differ in their seed alone together, in the order given."""
  learners = {}
  for run in found:
    learners.setdefault(run.training, []).append(run)
  for same in learners.values():
    seeds = [seed for run in same for seed in few_shot.seeds_of(run.setting)]
    if len(set(seeds)) < len(seeds):
      raise ValueError(f"expected runs of one learner to differ in their seeds, got {seeds} in {same[0].folder}, ...")
  return list(learners.values())


def _named(way: Tested, run: _Run, found: list[_Run]) -> Tested:
  """The way to use a run, whose name says the run's where others have the same."""
  others = {other.training for other in found if other.made.name == run.made.name}
  return way._replace(name=f"{way.name}, {run.folder.name}") if len(others) > 1 else way


def _ready(same: list[_Run], example) -> list[TrainState]:
  """What the runs of a learner have learned, of which it is known that it can be tested like this."""
  try:
    trained = [one for run in same for one in _restore(run, example)]
    few_shot.check_fits_test(same[0].made, (trained[0].params, trained[0].state), example)
    return trained
  except ValueError as error:
    raise ValueError(f"{error} (the run in {str(same[0].folder)!r})") from None


def _restore(run: _Run, example) -> list[TrainState]:
  """The chosen TrainState of each of the run's seeds. Initialising needs no more of a batch than its shapes."""
  made, s, trained = run.made, run.setting, []
  if made.batches:  # trained on something else than episodes
    example = next(made.batches(few_shot_data.load_part(s, "train"), s, s.seed)())
  at_once = runs.configuration(run.folder).get("seeds_at_once", 1)
  for part, seeds in few_shot.groups(s, at_once).items():
    repeat = lambda start, shard: iter([example])
    batches, seed = few_shot.together([repeat] * len(seeds), seeds)
    with Checkpoints(run.folder / part / "checkpoints") as checkpoints:
      found = restore(made.learner, few_shot.optimizer(made, s), batches, checkpoints, seed=seed)
    trained += each_seed(found, seed)
  return trained


if __name__ == "__main__":
  command_line.run(main)
