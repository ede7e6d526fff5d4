"""Within-alphabet one-shot classification, 20 ways and two drawers (Lake et al. 2015), with finished runs.

python -m experiments.one_shot runs/siamese-omniglot-* runs/prototypical-omniglot-*     # drawn from the run's data
python -m experiments.one_shot runs/siamese-omniglot-* --fixed one-shot-classification   # Lake's 20 fixed runs
"""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from experiments.families import published
from experiments.families.data import ImageData, slug, split_name
from experiments.families.few_shot import finished
from experiments.families.few_shot.experiment import images_of
from experiments.families.few_shot.finished import FewShotRun
from experiments.families.image_flags import kept_by, named_split
from metajax.data import load
from metajax.data import one_shot_runs as fixed_runs
from metajax.data import one_shot_tasks as drawn_runs
from metajax.evaluate import Score, mean_over_seeds, one_shot_error
from metajax.experiment import PIXELS, EvalMode, Record, command, records
from metajax.experiment.bounds import Count, DataName, RunPaths, Seed, TwoOrMore
from metajax.experiment.devices import on_devices
from metajax.experiment.evaluators.few_shot import TEST_SEED
from metajax.experiment.finished_runs import seconds_of, set_precision_of
from metajax.types import Batches


class Runs(NamedTuple):
  """One-shot test runs: batches, data flags, name of the split in the records, ways, number of runs, and seed."""

  batches: Batches
  data: ImageData
  where: str
  ways: int
  runs: int
  seed: int


def main(
  folders: RunPaths,
  fixed: Path | None = None,
  ways: TwoOrMore = 20,
  runs: TwoOrMore = 20,
  seed: Seed = TEST_SEED,
  data: Annotated[str | None, DataName()] = None,
  split: str = "",
  download: bool = False,
  devices: Annotated[int | None, *Count.__metadata__] = None,
  record: bool = False,
  modules: tuple[str, ...] = (),
):
  """Tests finished few-shot runs on within-alphabet one-shot classification; errors in percent.

  Runs that differ only in their seed count as one learner, with an interval over seeds.

  Args:
    folders: Folders of the training runs.
    fixed: Unzipped folder of Lake's fixed test runs (run01, run02, ...); by default test runs are drawn.
    ways: Characters per drawn test run.
    runs: Number of test runs to draw.
    seed: Random seed of the drawn test runs.
    data: Data set to draw from; by default that of the first training run.
    split: Named split of the classes; by default that of the first training run, unless --data is given.
    download: Download TFDS data that is missing.
    devices: Number of devices that share the test runs; by default all.
    record: Write the records to experiments/results and rebuild experiments/README.md.
    modules: Names of further Python modules to import, if the runs belong to custom experiments.
  """
  if not folders:
    raise ValueError("expected one or more run folders, got none")
  found = [finished.read(folder, modules) for folder in folders]
  set_precision_of([one.run for one in found])
  sizes = sorted({images_of(one.setup).size for one in found})
  if len(sizes) > 1:
    raise ValueError(f"expected runs on images of one size, got {' and '.join(map(str, sizes))} pixels")
  own = found[0].setup.data
  own = named_split(own, split) if data or split else own
  own = own._replace(data=data or own.data, download=download, size=sizes[0])
  batches, where = _drawn(own, found, ways, runs, seed) if fixed is None else (
    fixed_runs(fixed, size=own.size), "lake/fixed one-shot runs")  # fmt: skip
  example = next(batches())
  runs, ways = example.query.labels.shape[:2]
  given = Runs(batches, own, where, ways, runs, seed)
  with on_devices(devices):
    measured = _test(found, given, example)
  if known := published.one_shot_errors(own.data):
    print("published for Lake's fixed runs: " + ", ".join(f"{k} {v:g}%" for k, v in known.items()))
  if record:
    records.publish(records.home(main), f"one-shot-{slug(own)}", [records.flat(one) for one in measured])


def _drawn(own: ImageData, found: list[FewShotRun], ways: int, runs: int, seed: int) -> tuple[Batches, str]:
  """Test runs drawn from test classes, and the name of their split in the records."""
  part = f"{own.split}/test" if own.split else "test"
  form = images_of(found[0].setup._replace(data=own))
  source = load(  # upright: a rotated alphabet is invalid
    own.data, part, size=own.size, preprocessing=form.preprocessing, download=own.download, **kept_by(own)
  )
  for one in found:
    finished.check_unseen(one, own, source)
  return drawn_runs(source, ways=ways, runs=runs, seed=seed), split_name(own)


def _test(found: list[FewShotRun], given: Runs, example) -> list[Record]:
  """Prints the errors of each learner and of the pixel baseline, and returns the records."""
  measured = []
  ready = [(same, finished.ready(same, example)) for same in finished.learners(found)]
  print(f"\n{given.ways}-way one-shot within an alphabet, {given.runs} test runs: error")
  for same, trained in ready:
    for mode in (finished.named(mode, same[0], same, found) for mode in same[0].tests.modes):
      score = mean_over_seeds([one_shot_error(mode.learner, one.params, one.state, given.batches) for one in trained])
      print(f"  {mode.title} ({mode.query_norm})  {score}%")
      training = same[0].setup.training
      said = {"steps": training.steps, "chosen_step": [int(one.step) for one in trained]}
      # Training time of all runs of a learner, from the records of the runs.
      took = round(sum(seconds_of(one.run) or 0 for one in same))
      said |= {"train_seconds": took, "seed": training.seed, "seeds": len(trained)}
      measured.append(_record(mode, score, given, said))
  score = one_shot_error(PIXELS.learner, (), (), given.batches)
  print(f"  pixels, nearest centroid  {score}%\n  chance  {100 - 100 / given.ways:.2f}%")
  return [*measured, _record(PIXELS, score, given, {"steps": 0, "train_seconds": 0, "seed": 0})]


def _record(mode: EvalMode, score: Score, given: Runs, said: dict[str, Any]) -> Record:
  error = published.one_shot_error(mode.name, given.data.data)
  about = {"policy": mode.query_norm, "data": slug(given.data), "split": given.where, "ways": given.ways, "shots": 1}
  about |= {"queries": 1, "tasks": given.runs, "test_seed": given.seed, **said}
  return Record(mode.name, "one_shot_error", round(score.mean, 2), round(score.ci95, 2), mode.variant, error, about)


if __name__ == "__main__":
  command(main)
