"""Few-shot tests on unseen classes, beside the nearest centroid of the pixels: tables and records."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax.evaluate import Score, adaptation_curve, few_shot_accuracy, mean_and_ci, mean_over_seeds, paired_difference
from metajax.experiment.results_page import drawn
from metajax.experiment.types import Record, Trained, title_of
from metajax.predictors import nearest_centroid
from metajax.train import TrainState
from metajax.types import Batches, Learner

CHUNK_SIZE = 20  # of an evaluation
TEST_SEED = 2  # of the test tasks, the same for every learner and every run
Setting = tuple[int, int]  # ways and shots


class EvalMode(NamedTuple):
  """A way to use on new tasks what was trained.

  Attributes:
    name: the method's, in the records.
    learner: whose `predict` it is; MAML's may take more steps than in training.
    query_norm: how batch statistics are had at test time, in the records.
    after: where it adapts, the learner that takes a number of steps, for a curve.
    variant: what sets it apart from other learners of its method.
  """

  name: str
  learner: Learner
  query_norm: str = "none"
  after: Callable[[int], Learner] | None = None
  variant: tuple[str, ...] = ()

  @property
  def title(self) -> str:
    """The name with its variant."""
    return title_of(self.name, self.variant)


def _flat_pixels(params, state, inputs):
  return inputs.reshape(len(inputs), -1)


_NOT_TRAINED = Learner(
  init=lambda key, batch: ((), ()),
  loss=lambda params, state, batch, key: (jnp.zeros(()), (state, {})),
  embed=_flat_pixels,
  predict=nearest_centroid(_flat_pixels),
)
PIXELS = EvalMode("pixels", _NOT_TRAINED, "none")
Scores = dict[EvalMode, list[Score]]


class FewShot(NamedTuple):
  """Tests learners on tasks of unseen classes, and beside them the pixels. An `Evaluator`.

  Attributes:
    modes: the ways to use what was trained; the first one is shown on the run's page.
    tests: `() -> {(ways, shots): Batches of tasks}`.
    queries: of each class of a task, for the records.
    num_tasks: how many are drawn, at least 2.
    adaptation_curve: measure the accuracy after 0, 1, ... to this many adaptation steps, at the first setting.
    about: what records say of the data: `data`, `split`.
    published: `(mode, ways, shots) -> the paper's accuracy in percent, or None`.
    test_seed: of the tasks, for the records.
    trained_on_tasks: whether the learner is trained on such tasks, too.
  """

  modes: tuple[EvalMode, ...]
  tests: Callable[[], Mapping[Setting, Batches]]
  queries: int = 15
  num_tasks: int = 1000
  adaptation_curve: int = 0
  about: Mapping[str, Any] = {}
  published: Callable[[EvalMode, int, int], float | None] = lambda mode, ways, shots: None
  test_seed: int = TEST_SEED
  trained_on_tasks: bool = True

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints the accuracy of each way at each setting, and gives the records."""
    measured, tests, steps = [], self.tests(), [int(state.step) for state in trained.states]
    said = trained.said | {"test_seed": TEST_SEED, "chosen_step": steps if len(steps) > 1 else steps[0]}
    for test, batches in tests.items():
      scores = test_all(self.modes, trained.states, batches, self.num_tasks) | test_pixels(batches, self.num_tasks)
      print_scores(test, scores, self.num_tasks, self.queries)
      measured += self.records(test, scores, said, trained.seed)
    return measured + self.curves(next(iter(tests.items())), trained.states, said, trained.seed)

  def records(self, test: Setting, scores: Scores, said: Mapping[str, Any], seed: int) -> list[Record]:
    """The records of each way to use a network and of the pixels at a setting.

    Args:
      test: ways and shots.
      scores: of each way, one a seed.
      said: what they say of the training.
      seed: the first one of the training.
    """
    about = self._common(test, seed)
    return [self._record(mode, found, test, about, said) for mode, found in scores.items()]

  def _record(self, mode: EvalMode, found: list[Score], test: Setting, about: dict, said: Mapping[str, Any]) -> Record:
    score = mean_over_seeds(found)
    if mode == PIXELS:
      about |= {"train_seconds": 0, "steps": 0, "test_seed": self.test_seed}
    else:
      each = {"seeds": len(found), "each": [round(one.mean, 2) for one in found]} if len(found) > 1 else {}
      about = {**about, **said, **each}
    value, interval = round(score.mean, 2), round(score.ci95, 2)
    published = self.published(mode, test[0], test[1])
    about = {"policy": mode.query_norm, **about}
    return Record(mode.name, "accuracy", value, interval, mode.variant, published, about)

  def curves(self, test: tuple, states: Sequence[TrainState], said: Mapping[str, Any], seed: int) -> list[Record]:
    """The records of the accuracy after 0, 1, ... adaptation steps, and what is printed of them.

    Args:
      test: a setting and its tasks.
      states: of each seed.
      said: what records say of the training.
      seed: the first one of the training.
    """
    (setting, batches), found = test, []
    steps = range(self.adaptation_curve + 1 if self.adaptation_curve else 0)
    for mode in self.modes if steps else ():
      if not mode.after:
        continue
      curves = [adaptation_curve(mode.after, one.params, one.state, batches, steps, self.num_tasks) for one in states]
      points = [mean_over_seeds(scores) for scores in zip(*curves, strict=True)]
      print(f"\n{_title(mode)} after 0, 1, ... adaptation steps: {', '.join(map(str, points))}")
      for n, point in enumerate(points):
        about = {"policy": mode.query_norm, **self._common(setting, seed), "adaptation_steps": n, **said}
        value, interval = round(point.mean, 2), round(point.ci95, 2)
        found.append(Record(mode.name, "accuracy_after_steps", value, interval, mode.variant, None, about))
    return found

  def differences(self, to_beat: Sequence[EvalMode], modes: Sequence[EvalMode], scores: Scores, test: Setting,
                  said: Mapping[str, Any], seed: int) -> list[Record]:  # fmt: skip
    """The records of how many points each way to use a network is ahead of one to beat, task by task.

    That is the one under the same query norm or, where there is none, the first.

    Args:
      to_beat: ways of another learner.
      modes: of which the records are.
      scores: of both.
      test: ways and shots.
      said: what records say of the training.
      seed: the first one of the training.
    """
    found = []
    for mode in modes:
      other = next((one for one in to_beat if one.query_norm == mode.query_norm), to_beat[0])
      ahead = paired_difference(of_tasks(scores[mode]), of_tasks(scores[other]))
      query_norm = (
        mode.query_norm if mode.query_norm == other.query_norm else f"{mode.query_norm}, beside {other.query_norm}"
      )
      about = {"policy": query_norm, **self._common(test, seed), "beside": f"{other.title} ({other.query_norm})"}
      about |= {"seeds": len(scores[mode]), **said}
      measure, value, interval = f"points_ahead_of_{to_beat[0].title}", round(ahead.mean, 2), round(ahead.ci95, 2)
      found.append(Record(mode.name, measure, value, interval, mode.variant, None, about))
    return found

  def _common(self, test: Setting, seed: int) -> dict:
    ways, shots = test
    counted = {"queries": self.queries, "tasks": self.num_tasks, "seed": seed, "ways": ways, "shots": shots}
    return {**self.about, **counted}


def test_all(modes: Sequence[EvalMode], states: Sequence[TrainState], batches: Batches, num_tasks: int) -> Scores:
  """The scores of each seed's network used in each of the ways, all on the same tasks."""

  def scores(mode):
    return [few_shot_accuracy(mode.learner, one.params, one.state, batches, num_tasks) for one in states]

  return {mode: scores(mode) for mode in modes}


def test_pixels(batches: Batches, num_tasks: int) -> Scores:
  """The score of the nearest centroid of the pixels."""
  return {PIXELS: [few_shot_accuracy(PIXELS.learner, (), (), batches, num_tasks)]}


def check_curve(modes: Sequence[EvalMode], steps: int):
  """Refuses a curve over adaptation steps of a learner that takes none.

  Raises:
    ValueError: naming the learner.
  """
  if steps < 0:
    raise ValueError(f"expected a curve of at least 0 steps, got {steps}")
  if steps and not any(mode.after for mode in modes):
    raise ValueError(f"expected --curve of a learner tested after any number of steps, got {modes[0].title}")


def print_scores(test: Setting, scores: Scores, num_tasks: int, queries: int):
  """Prints what was found at a setting, and how much better the first way to use a network is than each other one."""
  ways, shots = test
  first, *others = scores
  seeds = f", {len(scores[first])} seeds (interval over seeds)" if len(scores[first]) > 1 else ""
  print(f"\n{ways}-way {shots}-shot on unseen classes, {drawn(num_tasks, queries)}{seeds}")
  names = {mode: _title(mode) for mode in scores}
  width = max(26, *map(len, names.values()))
  for mode, found in scores.items():
    print(f"  {names[mode]:<{width}} {mean_over_seeds(found)}%")
  print(f"  {'chance':<{width}} {100 / ways:.2f}%")
  if others:
    print(f"{names[first]} is ahead, by points task by task (interval over tasks), of")
  for other in others:
    print(f"  {names[other]:<{width}} {paired_difference(of_tasks(scores[first]), of_tasks(scores[other]))}")


def of_tasks(scores: Sequence[Score]) -> Score:
  """The mean over seeds of each task."""
  return mean_and_ci(np.mean([score.tasks for score in scores], axis=0))


def _title(mode: EvalMode) -> str:
  return "pixels, nearest centroid" if mode == PIXELS else f"{mode.title} ({mode.query_norm})"
