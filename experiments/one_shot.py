"""One-shot classification within an alphabet, 20 ways of two drawers (Lake et al. 2015), by runs that have ended.

python -m experiments.one_shot runs/siamese-omniglot-* runs/prototypical-omniglot-*     # drawn from the run's own data
python -m experiments.one_shot runs/siamese-omniglot-* --fixed one-shot-classification   # Lake's 20 fixed runs
"""

from pathlib import Path

import jax
from tyro.conf import Positional

from experiments import command_line, few_shot, few_shot_data, published, records, trained_runs
from experiments.few_shot_scores import PIXELS
from metajax import make_mesh
from metajax.data import load
from metajax.data import one_shot_runs as fixed_runs
from metajax.data import one_shot_tasks as drawn_runs
from metajax.evaluate import one_shot_runs, over_seeds

LAKE = "omniglot"


def main(
  folders: Positional[tuple[Path, ...]],
  fixed: Path | None = None,
  ways: int = 20,
  runs: int = 20,
  seed: int = few_shot.TEST_SEED,
  data: str | None = None,
  split: str = "",
  download: bool = False,
  devices: int | None = None,
  record: bool = False,
  modules: tuple[str, ...] = (),
):
  """Tests the chosen parameters of few-shot runs on one-shot classification within an alphabet; errors in percent.

  Runs that differ in their seed alone are one learner, with an interval over seeds.

  Args:
    folders: the runs' folders.
    fixed: the unzipped folder of Lake's fixed runs (run01, run02, ...); without it runs are drawn likewise.
    ways: characters of a drawn run.
    runs: how many are drawn.
    seed: of what is drawn.
    data: to draw from; the first run's own by default.
    split: a named split of it; the first run's own by default, where the data are its.
    download: let TFDS download data that is not there.
    devices: devices to share the runs; by default all.
    record: write the records to experiments/results and rebuild experiments/README.md.
    modules: of experiments of one's own, which the runs may be of: they are imported.
  """
  if not folders:
    raise ValueError("expected the folder of a run, or of several, got none")
  found = [trained_runs.read(folder, modules) for folder in folders]
  trained_runs.set_precision(found)
  s = found[0].setting
  sizes = sorted({run.setting.size for run in found})
  if len(sizes) > 1:
    raise ValueError(f"expected runs on pictures of one size, got {' and '.join(map(str, sizes))} pixels")
  s = s._replace(data=data or s.data, split=split or ("" if data else s.split), download=download)
  if fixed is not None:
    batches, where = fixed_runs(fixed, size=s.size), "lake/fixed one-shot runs"
  else:
    part = f"{s.split}/test" if s.split else "test"
    kept = {"skip_broken": s.skip_broken, "min_images_per_class": s.min_images_per_class}
    source = load(s.data, part, size=s.size, download=download, **kept)  # upright: a turned alphabet is none
    for run in found:
      trained_runs.check_unseen(run, s, source)
    batches, where = drawn_runs(source, ways=ways, runs=runs, seed=seed), few_shot_data.split_name(s)
  example = next(batches())
  runs, ways = example.query.labels.shape[:2]
  measured = []
  with jax.set_mesh(make_mesh(devices)):
    ready = [(same, trained_runs.ready(same, example)) for same in trained_runs.learners(found)]
    print(f"\n{ways}-way one-shot within an alphabet, {runs} runs: errors")
    for same, trained in ready:
      for way in (trained_runs.named(way, same[0], found) for way in same[0].made.tested):
        score = over_seeds([one_shot_runs(way.learner, one.params, one.state, batches) for one in trained])
        print(f"  {way.name} ({way.policy})  {score}%")
        how = {"steps": same[0].setting.steps, "chosen_step": [int(one.step) for one in trained]}
        how |= {"train_seconds": _seconds(same), "seed": same[0].setting.seed, "seeds": len(trained)}
        measured.append(_record(way, score, s, where, ways, runs, seed, how))
    score = one_shot_runs(PIXELS.learner, (), (), batches)
    print(f"  pixels, nearest centroid  {score}%\n  chance  {100 - 100 / ways:.2f}%")
    measured.append(_record(PIXELS, score, s, where, ways, runs, seed, {"steps": 0, "train_seconds": 0, "seed": 0}))
  if s.data == LAKE:
    print("published for Lake's fixed runs: " + ", ".join(f"{k} {v:g}%" for k, v in published.ONE_SHOT_ERROR.items()))
  if record:
    records.publish(f"one-shot-{few_shot_data.slug(s)}", measured)


def _record(way, score, s, where, ways, runs, seed, how) -> dict:
  error = published.ONE_SHOT_ERROR.get(way.name.split(",")[0]) if s.data == LAKE else None
  said = {"data": few_shot_data.slug(s), "split": where, "measure": "one_shot_error", "ways": ways, "shots": 1}
  said |= {"queries": 1, "tasks": runs, "test_seed": seed, "value": round(score.mean, 2)}
  said |= {"interval": round(score.interval, 2), "published": error}
  return records.record(learner=way.name, policy=way.policy, **said, **how)


def _seconds(same) -> int:
  """How long the runs of a learner took to train, as their own records have it."""
  return round(sum(trained_runs.own_seconds(run) or 0 for run in same))


if __name__ == "__main__":
  command_line.run(main)
