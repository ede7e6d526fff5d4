"""The scores of a few-shot learner on unseen classes, beside the pixels', and the records that are made of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments import published, records
from experiments.few_shot_data import rotates, slug, split_name
from metajax import Learner, few_shot_accuracy
from metajax.adapt import unchanged
from metajax.evaluate import Score, adaptation_curve, over_seeds, paired_difference, summarise
from metajax.predictors import nearest_centroid
from metajax.train import TrainState


class Tested(NamedTuple):
  """A way to use on new tasks what was trained.

  Attributes:
    name: in the records.
    learner: whose `predict` it is; MAML's may take more steps than in training.
    policy: how batch statistics are had at test time, in the records.
    after: where it adapts, the learner that takes a number of steps, for a curve.
  """

  name: str
  learner: Learner
  policy: str
  after: Callable[[int], Learner] | None = None


def _flat_pixels(params, state, inputs):
  return inputs.reshape(len(inputs), -1)


_NOT_TRAINED = Learner(
  init=lambda key, batch: ((), ()),
  loss=lambda params, state, batch, key: (0.0, (state, {})),
  embed=_flat_pixels,
  predict=nearest_centroid(_flat_pixels),
)
PIXELS = Tested("pixels", _NOT_TRAINED, "none")


def under_both(
  name: str, learner: Callable, adapt: Callable | None, steps: int, trained: str, normalisation: str
) -> tuple[Tested, ...]:
  """A learner under the policy that it was trained with, and then under the other one.

  Args:
    name: in the records.
    learner: `(adapt, policy) -> Learner`.
    adapt: `steps -> Adapt`; None for a learner that takes no steps.
    steps: to test with.
    trained: the policy in training.
    normalisation: the network's; all but "batch" have no statistics, and one policy.
  """
  other = "support" if trained == "transductive" else "transductive"
  policies = {trained: trained, other: f"{other}, trained {trained}"} if normalisation == "batch" else {trained: "none"}

  def after(policy):
    return lambda n: learner(adapt(n) if n else unchanged, policy)

  return tuple(
    Tested(name, learner(adapt and adapt(steps), policy), text, after(policy) if adapt else None)
    for policy, text in policies.items()
  )


def test_all(tested: Sequence[Tested], trained: Sequence[TrainState], batches, tasks: int) -> dict[Tested, list[Score]]:
  """The scores of each seed's network used in each of the ways, all on the same tasks."""
  scores = lambda way: [few_shot_accuracy(way.learner, one.params, one.state, batches, tasks) for one in trained]
  return {way: scores(way) for way in tested}


def test_pixels(batches, tasks: int) -> dict[Tested, list[Score]]:
  """The score of the nearest centroid of the pixels."""
  return {PIXELS: [few_shot_accuracy(PIXELS.learner, (), (), batches, tasks)]}


def check_curve(tested: Sequence[Tested], steps: int):
  """Refuses a curve over adaptation steps of a learner that takes none.

  Raises:
    ValueError: naming the learner.
  """
  if steps < 0:
    raise ValueError(f"expected a curve of at least 0 steps, got {steps}")
  if steps and not any(way.after for way in tested):
    raise ValueError(f"expected --curve of a learner tested after any number of steps, got {tested[0].name}")


def tell(test: tuple[int, int], scores: dict[Tested, list[Score]], tasks: int, queries: int):
  """Prints what was found at a setting, and how much better the first way to use a network is than each other one."""
  ways, shots = test
  first, *others = scores
  seeds = f", {len(scores[first])} seeds (interval over seeds)" if len(scores[first]) > 1 else ""
  print(f"\n{ways}-way {shots}-shot on unseen classes, {records.drawn(tasks, queries)}{seeds}")
  names = {tested: _title(tested) for tested in scores}
  width = max(26, *map(len, names.values()))
  for tested, found in scores.items():
    print(f"  {names[tested]:<{width}} {over_seeds(found)}%")
  print(f"  {'chance':<{width}} {100 / ways:.2f}%")
  if others:
    print(f"{names[first]} is ahead, by points task by task (interval over tasks), of")
  for other in others:
    print(f"  {names[other]:<{width}} {paired_difference(_of_tasks(scores[first]), _of_tasks(scores[other]))}")


def _of_tasks(scores: Sequence[Score]) -> Score:
  """The mean over seeds of each task."""
  return summarise(np.mean([score.tasks for score in scores], axis=0))


def records_of(test, scores: dict[Tested, list[Score]], s, how: dict) -> list[dict]:
  """The records of each way to use a network and of the pixels at a setting; `how` is what they say of the training."""
  ways, shots = test
  common = _common(s) | {"ways": ways, "shots": shots}

  def record(tested, found):
    score = over_seeds(found)
    said = {"value": round(score.mean, 2), "interval": round(score.interval, 2)}
    said["published"] = published.accuracy(tested.name, tested.policy, s.data, ways, shots)
    if tested == PIXELS:
      said |= {"train_seconds": 0, "steps": 0, "test_seed": how["test_seed"]}
    else:
      said |= how | ({"seeds": s.seeds, "each": [round(one.mean, 2) for one in found]} if s.seeds > 1 else {})
    return records.record(learner=tested.name, policy=tested.policy, **common, **said)

  return [record(tested, found) for tested, found in scores.items()]


def difference_records(to_beat: Sequence[Tested], tested: Sequence[Tested], scores, test, s, how: dict) -> list[dict]:
  """The records of how many points each way to use a network is ahead of one to beat, task by task.

  That is the one under the same policy or, where there is none, the first.
  """
  ways, shots = test
  found = []
  for way in tested:
    other = next((one for one in to_beat if one.policy == way.policy), to_beat[0])
    ahead = paired_difference(_of_tasks(scores[way]), _of_tasks(scores[other]))
    said = _common(s) | {"measure": f"points_ahead_of_{to_beat[0].name}", "ways": ways, "shots": shots}
    said |= {"value": round(ahead.mean, 2), "interval": round(ahead.interval, 2), "published": None}
    said |= {"beside": f"{other.name} ({other.policy})", "seeds": s.seeds}
    policy = way.policy if way.policy == other.policy else f"{way.policy}, beside {other.policy}"
    found.append(records.record(learner=way.name, policy=policy, **said, **how))
  return found


def curve_records(tested: Sequence[Tested], trained: Sequence[TrainState], test, s, how: dict) -> list[dict]:
  """The records of the accuracy after 0, 1, ... adaptation steps, and what is printed of it."""
  (ways, shots), batches = test
  found = []
  steps = range(s.curve + 1 if s.curve else 0)
  for way in tested if steps else ():
    if not way.after:
      continue
    curves = [adaptation_curve(way.after, one.params, one.state, batches, steps, s.test_tasks) for one in trained]
    points = [over_seeds(scores) for scores in zip(*curves, strict=True)]
    print(f"\n{_title(way)} after 0, 1, ... adaptation steps: {', '.join(map(str, points))}")
    for n, point in enumerate(points):
      said = _common(s) | {"measure": "accuracy_after_steps", "ways": ways, "shots": shots, "adaptation_steps": n}
      said |= {"value": round(point.mean, 2), "interval": round(point.interval, 2), "published": None}
      found.append(records.record(learner=way.name, policy=way.policy, **said, **how))
  return found


def _title(tested: Tested) -> str:
  return "pixels, nearest centroid" if tested == PIXELS else f"{tested.name} ({tested.policy})"


def _common(s) -> dict:
  said = {"data": slug(s), "split": split_name(s), "rotations": rotates(s), "measure": "accuracy"}
  return said | {"queries": s.test_queries, "tasks": s.test_tasks, "seed": s.seed}
