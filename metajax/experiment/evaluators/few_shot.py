"""Few-shot tests, with the nearest centroid of pixels as the baseline: tables and records."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.evaluate import Score, adaptation_curve, few_shot_accuracy, mean_and_ci, mean_over_seeds, paired_difference
from metajax.experiment.results_page import drawn
from metajax.experiment.settings import Setting, entries_of, is_variable, setting_name
from metajax.experiment.types import Record, Trained, title_of
from metajax.pixels import images_to_float
from metajax.predictors import nearest_centroid
from metajax.train import TrainState
from metajax.tree import values_of
from metajax.types import Batches, Learner

CHUNK_SIZE = 20  # tasks per evaluation batch
TEST_SEED = 2  # of the test tasks, the same for every learner and every run


class EvalMode(NamedTuple):
  """A way of using a trained network on new tasks.

  Attributes:
    name: Name of the method in the records.
    learner: Learner whose `predict` is used; for MAML, possibly with more steps than in training.
    query_norm: Source of the batch statistics at test time, in the records.
    after: `inner steps -> Learner` for the adaptation curve; None for a learner that does not adapt.
    variant: Distinguishes learners of one method.
    said: Further entries of the records, as pairs of a name and a value.
  """

  name: str
  learner: Learner
  query_norm: str = "none"
  after: Callable[[int], Learner] | None = None
  variant: tuple[str, ...] = ()
  said: tuple[tuple[str, Any], ...] = ()

  @property
  def title(self) -> str:
    """The name with the variant."""
    return title_of(self.name, self.variant)


def _flat_pixels(params, state, inputs):
  pixels = values_of(inputs)
  return pixels.reshape(len(pixels), -1)


_NOT_TRAINED = Learner(
  init=lambda key, batch: ((), ()),
  loss=lambda params, state, batch, key: (jnp.zeros(()), (state, {})),
  embed=_flat_pixels,
  predict=nearest_centroid(_flat_pixels),
)
PIXELS = EvalMode("pixels", _NOT_TRAINED, "none")
Scores = dict[EvalMode, list[Score]]
Choose = Callable[[Sequence[TrainState], Batches], tuple[EvalMode, ...]]


def no_tasks(test: Setting) -> Batches:
  """Batches without tasks."""
  return lambda start=0, shard=(0, 1): iter(())


class FewShot(NamedTuple):
  """Tests a learner and the pixel baseline on few-shot tasks. An `Evaluator`.

  Attributes:
    modes: Evaluation modes; the first one is shown on the run's page.
    tests: `() -> {(ways, shots): Batches of tasks}`.
    queries: Query images per class, for the records.
    num_tasks: Number of test tasks, at least 2.
    adaptation_curve: Largest number of steps of the adaptation curve, at the first setting; 0 for no curve.
    about: Entries on the data in the records: `data`, `split`.
    published: `(mode, ways, shots) -> published accuracy in percent, or None`.
    test_seed: Seed of the test tasks, for the records.
    trained_on_tasks: True if the learner also trains on tasks.
    queries_of: `() -> {(ways, shots): query images per class}` of tests where their number is not `queries`.
    chance_of: `() -> {(ways, shots): accuracy at chance level, in percent}` of tests where it is not `100 / ways`.
    unseen: False if the classes of the tests were seen in training.
    choose: `(states, validation tasks) -> modes` to test, in place of `modes`: chosen after training.
    validation: `(ways, shots) -> Batches` of validation tasks for `choose`.
    said: Further entries on the network and its training in the records: `encoder`, `image_size`, `trained_on`.
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
  queries_of: Callable[[], Mapping[Setting, int]] = dict
  chance_of: Callable[[], Mapping[Setting, float]] = dict
  unseen: bool = True
  choose: Choose | None = None
  validation: Callable[[Setting], Batches] = no_tasks
  said: Mapping[str, Any] = {}

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints the accuracy of each mode at each setting, and returns the records."""
    measured, tests, steps = [], self.tests(), [int(state.step) for state in trained.states]
    said = trained.said | {"test_seed": TEST_SEED, "chosen_step": steps if len(steps) > 1 else steps[0]}
    said |= {**self.said, **_sizes(self.modes[0].learner, trained.states[0], next(iter(tests.values())))}
    for test, batches in tests.items():
      modes = self.modes_for(trained.states, test)
      scores = test_all(modes, trained.states, batches, self.num_tasks) | test_pixels(batches, self.num_tasks)
      print_scores(test, scores, self.num_tasks, self.queries_at(test), self.unseen, self.chance_at(test))
      measured += self.records(test, scores, said, trained.seed)
    return measured + self.curves(next(iter(tests.items())), trained.states, said, trained.seed)

  def modes_for(
    self, states: Sequence[TrainState], test: Setting, validation: Batches | None = None
  ) -> tuple[EvalMode, ...]:
    """The modes to test for trained states at a setting, chosen by its validation tasks if there is a choice."""
    if self.choose is None:
      return self.modes
    return self.choose(states, self.validation(test) if validation is None else validation)

  def queries_at(self, test: Setting) -> int:
    """Query images per class at a setting."""
    return self.queries_of().get(test, self.queries)

  def chance_at(self, test: Setting) -> float:
    """Accuracy at chance level at a setting, in percent."""
    return self.chance_of().get(test, 100 / test[0])

  def records(self, test: Setting, scores: Scores, said: Mapping[str, Any], seed: int) -> list[Record]:
    """The records of each mode and of the pixel baseline at a setting.

    Args:
      test: Ways and shots.
      scores: Scores of each mode, one per seed.
      said: Entries on the training.
      seed: First seed of the training.
    """
    about = self._common(test, seed) | {"chance": round(self.chance_at(test), 2)}
    pixels = scores.get(PIXELS)
    return [self._record(mode, found, test, about | _lead(mode, found, pixels), said) for mode, found in scores.items()]

  def _record(self, mode: EvalMode, found: list[Score], test: Setting, about: dict, said: Mapping[str, Any]) -> Record:
    score = mean_over_seeds(found)
    if mode == PIXELS:
      about |= {"train_seconds": 0, "steps": 0, "test_seed": self.test_seed}
    else:
      each = {"seeds": len(found), "each": [round(one.mean, 2) for one in found]} if len(found) > 1 else {}
      about = {**about, **said, **each}
    value, interval = round(score.mean, 2), round(score.ci95, 2)
    published = self.published(mode, test[0], test[1])
    about = {"policy": mode.query_norm, **about, **dict(mode.said)}
    return Record(mode.name, "accuracy", value, interval, mode.variant, published, about)

  def curves(self, test: tuple, states: Sequence[TrainState], said: Mapping[str, Any], seed: int) -> list[Record]:
    """Prints the accuracy after 0, 1, ... adaptation steps, and returns the records.

    Args:
      test: Setting and its tasks.
      states: TrainState of each seed.
      said: Entries on the training in the records.
      seed: First seed of the training.
    """
    (setting, batches), found = test, []
    steps = range(self.adaptation_curve + 1 if self.adaptation_curve else 0)
    for mode in self.modes if steps else ():
      if not mode.after:
        continue
      curves = [adaptation_curve(mode.after, one.params, one.state, batches, steps, self.num_tasks) for one in states]
      points = [mean_over_seeds(scores) for scores in zip(*curves, strict=True)]
      print(f"\naccuracy of {_title(mode)} after 0, 1, ... adaptation steps: {', '.join(map(str, points))}")
      for n, point in enumerate(points):
        about = {"policy": mode.query_norm, **self._common(setting, seed), "adaptation_steps": n, **said}
        value, interval = round(point.mean, 2), round(point.ci95, 2)
        found.append(Record(mode.name, "accuracy_after_steps", value, interval, mode.variant, None, about))
    return found

  def differences(self, to_beat: Sequence[EvalMode], modes: Sequence[EvalMode], scores: Scores, test: Setting,
                  said: Mapping[str, Any], seed: int) -> list[Record]:  # fmt: skip
    """The records of the lead of each mode over a mode of another learner, paired by task.

    Each mode is compared with the one under the same query norm, or with the first one if there is none.

    Args:
      to_beat: Modes of the other learner.
      modes: Modes of this learner.
      scores: Scores of all modes.
      test: Ways and shots.
      said: Entries on the training in the records.
      seed: First seed of the training.
    """
    found = []
    for mode in modes:
      other = next((one for one in to_beat if one.query_norm == mode.query_norm), to_beat[0])
      ahead = paired_difference(of_tasks(scores[mode]), of_tasks(scores[other]))
      query_norm = (
        mode.query_norm if mode.query_norm == other.query_norm else f"{mode.query_norm}, beside {other.query_norm}"
      )
      about = {"policy": query_norm, **self._common(test, seed), "beside": f"{other.title} ({other.query_norm})"}
      about |= {"seeds": len(scores[mode]), **said, **dict(mode.said)}
      measure, value, interval = f"points_ahead_of_{to_beat[0].title}", round(ahead.mean, 2), round(ahead.ci95, 2)
      found.append(Record(mode.name, measure, value, interval, mode.variant, None, about))
    return found

  def _common(self, test: Setting, seed: int) -> dict:
    counted = {"queries": self.queries_at(test), "tasks": self.num_tasks, "seed": seed, **entries_of(test)}
    return {**self.about, **counted} | ({} if self.unseen else {"unseen": False})


def test_all(modes: Sequence[EvalMode], states: Sequence[TrainState], batches: Batches, num_tasks: int) -> Scores:
  """The scores of each seed in each mode, all on the same tasks."""

  def scores(mode):
    return [few_shot_accuracy(mode.learner, one.params, one.state, batches, num_tasks) for one in states]

  return {mode: scores(mode) for mode in modes}


def test_pixels(batches: Batches, num_tasks: int) -> Scores:
  """The score of the pixel baseline, nearest centroid."""
  return {PIXELS: [few_shot_accuracy(PIXELS.learner, (), (), batches, num_tasks)]}


def check_curve(modes: Sequence[EvalMode], steps: int):
  """Refuses an adaptation curve for a learner that does not adapt.

  Raises:
    ValueError: naming the learner.
  """
  if steps < 0:
    raise ValueError(f"expected a curve of at least 0 steps, got {steps}")
  if steps and not any(mode.after for mode in modes):
    raise ValueError(
      f"expected --adaptation-curve of a learner that adapts in any number of steps, got {modes[0].title}"
    )


def print_scores(
  test: Setting, scores: Scores, num_tasks: int, queries: int, unseen: bool = True, chance: float | None = None
):
  """Prints the accuracies at a setting beside chance, and the paired lead of the first mode over each other one."""
  first, *others = scores
  over = f"{len(scores[first])} seeds" if len(scores[first]) > 1 else "tasks"
  on = "unseen classes" if unseen else "classes seen in training"
  name, tasks = setting_name(entries_of(test)), drawn(num_tasks, queries, most=is_variable(test))
  print(f"\n{name} accuracy on {on}, {tasks}: mean ± 95% CI over {over}")
  names = {mode: _title(mode) for mode in scores}
  width = max(26, *map(len, names.values()))
  for mode, found in scores.items():
    print(f"  {names[mode]:<{width}} {mean_over_seeds(found)}%")
  print(f"  {'chance':<{width}} {100 / test[0] if chance is None else chance:.2f}%")
  if others:
    print(f"lead of {names[first]} in points, paired by task: mean ± 95% CI over tasks")
  for other in others:
    difference = paired_difference(of_tasks(scores[first]), of_tasks(scores[other]))
    print(f"  {'over ' + names[other]:<{width}} {difference}")


def _sizes(learner: Learner, trained: TrainState, tasks: Batches) -> dict[str, int]:
  """The number of parameters of a learner, and of the features of an image."""
  images = jax.tree.map(lambda x: x[0], images_to_float(next(tasks()).query.inputs))
  features = jax.eval_shape(learner.embed, trained.params, trained.state, images).shape[-1]
  return {"features": features, "params": sum(leaf.size for leaf in jax.tree.leaves(trained.params))}


def _lead(mode: EvalMode, scores: list[Score], pixels: list[Score] | None) -> dict[str, float]:
  """The lead over the pixel baseline in points, paired by task."""
  if mode == PIXELS or pixels is None:
    return {}
  ahead = paired_difference(of_tasks(scores), of_tasks(pixels))
  return {"points_ahead_of_pixels": round(ahead.mean, 2), "points_ahead_of_pixels_ci95": round(ahead.ci95, 2)}


def of_tasks(scores: Sequence[Score]) -> Score:
  """The score of tasks, each averaged over seeds."""
  return mean_and_ci(np.mean([score.tasks for score in scores], axis=0))


def _title(mode: EvalMode) -> str:
  return "pixels, nearest centroid" if mode == PIXELS else f"{mode.title} ({mode.query_norm})"
