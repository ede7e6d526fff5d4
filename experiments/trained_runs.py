"""Runs that have ended, read again to be tested: what they are, and what they have learned."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from experiments import few_shot, few_shot_data, records, runs
from experiments.few_shot_scores import Tested
from metajax.checkpoint import Checkpoints
from metajax.data import Source
from metajax.train import TrainState, each_seed, restore


class Trained(NamedTuple):
  """A run's folder, its Method, its Setting, and how it was trained."""

  folder: Path
  made: few_shot.Method
  setting: few_shot.Setting
  training: tuple  # what it has in common with runs that differ in their seed alone
  precision: str


def read(folder: Path, modules: Sequence[str] = ()) -> Trained:
  """The run in a folder.

  Args:
    folder: of the run.
    modules: of experiments that it may be of, beside those of this package.

  Raises:
    FileNotFoundError, ValueError: if there is none, or it is no few-shot run.
  """
  module, flags = runs.flags_of(folder, modules)
  if not isinstance(flags.get("setting"), few_shot.Setting):
    raise ValueError(f"expected a few-shot run, got one of {module.__name__} in {str(folder)!r}")
  said = runs.configuration(folder)["flags"]
  free = runs.FREE | {"seed", "seeds", "seeds_at_once"}
  training = module.__name__, *sorted((name, str(value)) for name, value in said.items() if name not in free)
  return Trained(folder, few_shot.made_by(module.method, flags), flags["setting"], training, flags["run"].precision)


def set_precision(found: list[Trained]):
  """That of the runs; what is compared must have one."""
  precisions = sorted({run.precision for run in found})
  if len(precisions) > 1:
    raise ValueError(f"expected runs of one --precision, got {' and '.join(precisions)}")
  jax.config.update("jax_default_matmul_precision", precisions[0])


def check_unseen(run: Trained, s: few_shot.Setting, test: Source):
  """Refuses test classes that the run was trained or chosen on, where the data are its own in another split."""
  own = run.setting
  if own.data != s.data or own.split == s.split:
    return
  seen = {name for part in ("train", "validation") for name in few_shot_data.load_part(own, part).classes}
  if shared := seen.intersection(test.classes):
    given = f"{len(shared)} of {len(test.classes)} that were, such as {min(shared)!r}"
    raise ValueError(f"expected test classes that the run in {str(run.folder)!r} was not trained on, got {given}")


def learners(found: list[Trained]) -> list[list[Trained]]:
  """The runs, those that differ in their seed alone together, in the order given."""
  learners = {}
  for run in found:
    learners.setdefault(run.training, []).append(run)
  for same in learners.values():
    seeds = [seed for run in same for seed in few_shot.seeds_of(run.setting)]
    if len(set(seeds)) < len(seeds):
      raise ValueError(f"expected runs of one learner to differ in their seeds, got {seeds} in {same[0].folder}, ...")
  return list(learners.values())


def seconds(same: list[Trained]) -> int:
  """What the runs of a learner took to train, all together, as they recorded it.

  Raises:
    ValueError: if one has not ended, and has no records.
  """
  took = {run.folder: own_seconds(run) for run in same}
  if unended := [str(folder) for folder, one in took.items() if one is None]:
    raise ValueError(f"expected runs that have ended, got one without records in {unended[0]!r}")
  return sum(took.values())


def own_seconds(run: Trained) -> float | None:
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


def named(way: Tested, run: Trained, found: list[Trained]) -> Tested:
  """The way to use a run, whose name says the run's where others have the same."""
  others = {other.training for other in found if any(own.name == way.name for own in other.made.tested)}
  return way._replace(name=f"{way.name}, {run.folder.name}") if len(others) > 1 else way


def ready(same: list[Trained], example) -> list[TrainState]:
  """What the runs of a learner have learned, of which it is known that it can be tested like this."""
  try:
    trained = [one for run in same for one in _restore(run, example)]
    few_shot.check_fits_test(same[0].made, (trained[0].params, trained[0].state), example)
    return trained
  except ValueError as error:
    raise ValueError(f"{error} (the run in {str(same[0].folder)!r})") from None


def _restore(run: Trained, example) -> list[TrainState]:
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
