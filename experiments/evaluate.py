"""Tests what runs have learned at any setting, or on other data: train once, test anywhere.

python -m experiments.evaluate runs/prototypical-omniglot-20261124-101500 --ways 20 --shots 5     # a minute on 2 cores
python -m experiments.evaluate runs/maml-omniglot-* runs/anil-omniglot-*     # the same tasks, and paired differences
python -m experiments.evaluate runs/maml-omniglot-* runs/anil-omniglot-* --record     # which the results page gains
"""

import os
import time
from pathlib import Path

import jax
from tyro.conf import Positional

from experiments import command_line, few_shot, few_shot_data, records, trained_runs
from experiments.few_shot_scores import (
  check_curve,
  curve_records,
  difference_records,
  records_of,
  tell,
  test_all,
  test_pixels,
)
from metajax import make_mesh


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
  record: bool = False,
  modules: tuple[str, ...] = (),
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
    record: add to the results page by how much each other learner is ahead of the first one.
    modules: of experiments of one's own, which the runs may be of: they are imported.
  """
  if not folders:
    raise ValueError("expected the folder of a run, or of several, got none")
  found = [trained_runs.read(folder, modules) for folder in folders]
  trained_runs.set_precision(found)
  learners = trained_runs.learners(found)
  if record and len(learners) < 2:
    raise ValueError(f"expected several learners to record their differences, got {learners[0][0].made.name} alone")
  for run in found:
    check_curve(run.made.tested, curve)
  took = {same[0].folder: {"train_seconds": trained_runs.seconds(same)} for same in learners if record}
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
    trained_runs.check_unseen(run, s, source)
  batches = few_shot.test_batches(source, *test, queries, seed)
  example = next(batches())
  written, differences = [], []
  with jax.set_mesh(make_mesh(devices)):
    pixels, scores = test_pixels(batches, tasks), {}
    # All of them before any is tested: what cannot be is known at once.
    for same, trained in [(same, trained_runs.ready(same, example)) for same in learners]:
      ways_to_use = [trained_runs.named(way, same[0], found) for way in same[0].made.tested]
      mine = test_all(ways_to_use, trained, batches, tasks)
      scores |= mine
      how = {"chosen_step": [int(one.step) for one in trained], "run": " ".join(str(run.folder) for run in same)}
      how |= {"test_seed": seed, "steps": same[0].setting.steps, "train_seconds": 0}
      of = s._replace(seed=same[0].setting.seed, seeds=len(trained))
      measured = records_of(test, mine | pixels, of, how) + curve_records(
        ways_to_use, trained, (test, batches), of, how
      )
      if same is learners[0]:
        to_beat = ways_to_use
      elif record:
        differences += difference_records(to_beat, ways_to_use, scores, test, of, how | took[same[0].folder])
      written.append((same[0].folder / time.strftime(f"evaluation-%Y%m%d-%H%M%S-{os.getpid()}.json"), measured))
  tell(test, scores | pixels, tasks, queries)
  for path, measured in written:
    try:
      records.write(path, measured)
      print(f"\nrecords: {path}")
    except OSError as error:
      print(f"\nnot recorded: {error}")
  if record:
    records.publish(f"ahead_of_{to_beat[0].name}-{few_shot_data.slug(s)}", differences)


if __name__ == "__main__":
  command_line.run(main)
