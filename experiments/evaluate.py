"""Tests what a run has learned at another setting, or on other data: train once, test anywhere.

python -m experiments.evaluate runs/prototypical-omniglot-20261124-101500 --ways 20 --shots 5     # a minute on 2 cores
"""

import time
from pathlib import Path

import jax
from tyro.conf import Positional

from experiments import command_line, few_shot, few_shot_data, records, runs
from metajax import make_mesh
from metajax.checkpoint import Checkpoints
from metajax.train import each_seed, restore


def main(
  run: Positional[Path],
  ways: int | None = None,
  shots: int | None = None,
  queries: int = 15,
  data: str | None = None,
  split: str | None = None,
  tasks: int = 1000,
  seed: int = 2,
  download: bool = False,
  skip_broken: bool = False,
  devices: int | None = None,
):
  """Tests the chosen parameters of a few-shot run on unseen classes.

  Args:
    run: the run's folder.
    ways: classes of a test task; by default those of the run's first test setting.
    shots: support pictures of each class; by default likewise.
    queries: query pictures of each class.
    data: other data, as for the run's own --data.
    split: a named split of the data's classes; the run's own by default, where the data are the run's.
    tasks: test tasks.
    seed: of the test tasks; 2 gives those of the run itself.
    download: let TFDS download data that is not there.
    skip_broken: leave out files of one's own that cannot be read.
    devices: devices to share the tasks; by default all.
  """
  module, flags = runs.flags_of(run)
  if not hasattr(module, "method"):
    raise ValueError(f"expected a few-shot run, got one of {module.__name__} in {str(run)!r}")
  jax.config.update("jax_default_matmul_precision", flags["run"].precision)
  made, trained_with = module.method(**flags), flags["setting"]
  first = few_shot.tests_of(trained_with)[0]
  test = (first[0] if ways is None else ways, first[1] if shots is None else shots)
  other = {"download": download, "skip_broken": skip_broken, "test_queries": queries, "test_tasks": tasks}
  s = trained_with._replace(**other)
  if data is not None and data != s.data:
    s = s._replace(data=data, split="")
  s = s if split is None else s._replace(split=split)
  source = few_shot_data.load_part(s, "test")
  batches = few_shot.test_batches(source, *test, queries, seed)
  example = next(batches())
  with jax.set_mesh(make_mesh(devices)):
    trained = _restore(run, made, trained_with, example)
    few_shot.check_fits_test(made.test_learner, (trained[0].params, trained[0].state), example)
    scores, pixels = few_shot.test_all(made, trained, batches, tasks)
  few_shot.tell(made.name, test, scores, pixels, tasks, queries)
  how = {"chosen_step": [int(one.step) for one in trained], "run": str(run), "test_seed": seed}
  found = few_shot.records_of(made, test, scores, pixels, s, how | {"steps": trained_with.steps, "train_seconds": 0})
  path = run / time.strftime("evaluation-%Y%m%d-%H%M%S.json")
  try:
    records.write(path, found)
    print(f"\nrecords: {path}")
  except OSError as error:
    print(f"\nnot recorded: {error}")


def _restore(run: Path, made, s, example):
  """The chosen TrainState of each of the run's seeds. Initialising needs no more of a batch than its shapes."""
  trained = []
  at_once = runs.configuration(run).get("seeds_at_once", 1)
  for part, seeds in few_shot.groups(s, at_once).items():
    repeat = lambda start, shard: iter([example])
    batches, seed = few_shot.together([repeat] * len(seeds), seeds)
    with Checkpoints(run / part / "checkpoints") as checkpoints:
      found = restore(made.learner, few_shot.optimizer(s), batches, checkpoints, seed=seed)
    trained += each_seed(found, seed)
  return trained


if __name__ == "__main__":
  command_line.run(main)
