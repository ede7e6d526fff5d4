"""Evaluation of frozen features: linear probes, nearest neighbors and few-shot tests of several representations."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax.data import ImageDataset, episode_rows, eval_batches
from metajax.evaluate import embed_dataset, linear_probe, mean_over_seeds, nearest_neighbors
from metajax.experiment.evaluators.few_shot import (
  CHUNK_SIZE,
  PIXELS,
  EvalMode,
  FewShot,
  print_scores,
  test_all,
  test_pixels,
)
from metajax.experiment.types import Record, title_of
from metajax.mesh import round_up_to_hosts
from metajax.shards import host_slice
from metajax.train import TrainState
from metajax.types import Batches, Episode, Examples, Learner

BATCH = 256  # images embedded together
PROBES: Mapping[str, Callable[..., Any]] = {"linear_probe": linear_probe, "knn": nearest_neighbors}


class Splits(NamedTuple):
  """Labeled images of the same classes for probes: training, validation and test."""

  train: ImageDataset
  validation: ImageDataset
  test: ImageDataset


class Representation(NamedTuple):
  """Frozen features.

  Attributes:
    name: Name of the learner in the records.
    embed: `(params, state, inputs) -> features [n, d]`.
    states: TrainState of each seed.
    variant: Distinguishes features of one learner.
    trained: False for pixels, which need no training.
  """

  name: str
  embed: Callable
  states: Sequence[TrainState]
  variant: tuple[str, ...] = ()
  trained: bool = True

  @property
  def title(self) -> str:
    """The name with the variant."""
    return title_of(self.name, self.variant)


_UNTRAINED: tuple[Any, ...] = ((), (), None, None, 0)
_NOTHING = TrainState(*_UNTRAINED)  # without a key, so that the import initializes no device
PIXELS_AS_FEATURES = Representation("pixels", PIXELS.learner.embed, [_NOTHING], trained=False)


def _of_images(part: ImageDataset) -> Batches:
  return eval_batches(part, batch_size=BATCH)


def probe_all(
  shown: Sequence[Representation],
  splits: Sequence[Any],
  about: Mapping[str, Any],
  said: Mapping[str, Any],
  published: Callable[[str, str], float | None] = lambda name, measure: None,
  unseen: bool = False,
  *,
  batches: Callable[[Any], Batches | Iterable[Examples]] = _of_images,
  things: str = "images",
) -> list[Record]:
  """Prints the accuracy of a linear probe and of nearest neighbors on each representation, and returns the records.

  Args:
    shown: Representations.
    splits: Labeled images, as `Splits`, or other things with `labels` and `classes`: training, validation and test.
    about: Entries on the data in the records.
    said: Entries on the training in the records.
    published: `(name, measure) -> published accuracy in percent, or None`.
    unseen: True if the classes were not trained on.
    batches: `part -> batches` of a split.
    things: What is embedded, in words.
  """
  over = f"{len(shown[0].states)} seeds" if len(shown[0].states) > 1 else things
  measured, width, test = [], max(len(one.title) for one in shown), splits[-1]
  print(f"\naccuracy of frozen features on {len(test.labels):,} {things} of {len(test.classes)}"
        f"{' unseen' * unseen} classes: mean ± 95% CI over {over}")  # fmt: skip
  print(f"  {'':<{width}}  {'linear probe':<15}  nearest neighbors")
  for one in shown:
    found = {measure: [] for measure in PROBES}
    for state in one.states:
      three = [embed_dataset(one.embed, state.params, state.state, batches(part)) for part in splits]
      for measure, probe in PROBES.items():
        found[measure].append(probe(*three))
    scores = {measure: mean_over_seeds([probed.test for probed in some]) for measure, some in found.items()}
    print(f"  {one.title:<{width}}  {str(scores['linear_probe']) + '%':<15}  {scores['knn']}%")
    training = dict(said) | {"seeds": len(one.states)}
    training = training if one.trained else {"train_seconds": 0, "steps": 0, "seed": said["seed"]}
    for measure, some in found.items():
      score, chosen = scores[measure], [probed.chosen for probed in some]
      more = {"labelled": len(splits[0].labels), "labels": 1.0, "chosen": chosen}
      value, interval = round(score.mean, 2), round(score.ci95, 2)
      figure = published(one.title, measure)
      measured.append(Record(one.name, measure, value, interval, one.variant, figure, {**about, **more, **training}))
  print(f"  {'chance':<{width}}  {f'{100 / len(test.classes):.2f}%':<15}  {100 / len(test.classes):.2f}%")
  return measured


def few_shot_all(
  learners: Mapping[str, tuple[Learner, Sequence[TrainState]]],
  tests: FewShot,
  said: Mapping[str, Any],
  frozen: ImageDataset | None = None,
) -> list[Record]:
  """Prints the few-shot accuracy of frozen embeddings, and returns the records, for the table of the meta-learners.

  Args:
    learners: `{name: (learner, TrainState of each seed)}`.
    tests: Few-shot evaluator with the tasks.
    said: Entries on the training in the records.
    frozen: Images of the tasks, for learners that predict by nearest centroid of their embeddings: each image is then
      embedded once, not once per task.
  """
  measured, tasks = [], tests.tests()
  training = dict(said) | {"test_seed": tests.test_seed}
  once = {name: _embedded_once(*one, frozen, tests) for name, one in learners.items()} if frozen and tasks else {}
  for test, batches in tasks.items():
    scores = {}
    for name, (learner, states) in learners.items():
      mode = EvalMode(name, _CENTROIDS if name in once else learner, _POLICY)
      if name in once:
        scores[mode] = [test_all([mode], [_NOTHING], own(*test), tests.num_tasks)[mode][0] for own in once[name]]
      else:
        scores |= test_all([mode], states, batches, tests.num_tasks)
    scores |= test_pixels(batches, tests.num_tasks)
    print_scores(test, scores, tests.num_tasks, tests.queries_at(test), tests.unseen)
    measured += tests.records(test, scores, training, said["seed"])
  return measured


_POLICY = "running statistics"
_CENTROIDS = PIXELS.learner  # nearest centroid of its inputs, here features


def _embedded_once(
  learner: Learner, states: Sequence[TrainState], source: ImageDataset, tests: FewShot
) -> list[Callable]:
  """For each seed `(ways, shots) -> batches` of the test tasks, with features as inputs."""
  whole = eval_batches(source, batch_size=BATCH)
  found = [embed_dataset(learner.embed, state.params, state.state, whole).inputs for state in states]
  return [partial(_tasks_of, one, source, tests) for one in found]


def _tasks_of(found: np.ndarray, source: ImageDataset, tests: FewShot, ways: int, shots: int) -> Batches:
  rows_of = episode_rows(source, ways=ways, shots=shots, queries=tests.queries_at((ways, shots)), seed=tests.test_seed)
  chunk = round_up_to_hosts(CHUNK_SIZE)

  def label(each):
    return np.repeat(np.eye(ways, dtype=np.float32), each, 0)

  def part(rows):
    return Examples(found[rows.reshape(-1)], label(rows.shape[1]))

  def batches(start=0, shard=(0, 1)):
    own = host_slice(chunk, shard)
    for first in itertools.count(start * chunk, chunk):
      tasks = [rows_of(first + i) for i in range(own.start, own.stop)]
      both = [Episode(part(rows[:, :shots]), part(rows[:, shots:])) for rows in tasks]
      yield jax.tree.map(lambda *x: np.stack(x), *both)

  return batches
