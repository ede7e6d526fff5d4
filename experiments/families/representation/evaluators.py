"""What frozen features are worth beside a random encoder's and the pixels: an evaluator of pretraining experiments."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.families import published
from experiments.families.data import ImageData, slug, split_name, tested_on
from experiments.families.few_shot.experiment import test_batches
from experiments.families.representation.config import Probing, Setup, settings_of
from experiments.families.representation.data import ProbeSplits
from metajax.data import ImageDataset, eval_batches, select_rows
from metajax.evaluate import embed_dataset, neighbor_classes
from metajax.experiment import FewShot, Record, Trained
from metajax.experiment.evaluators.probes import (
  BATCH,
  PIXELS_AS_FEATURES,
  Representation,
  few_shot_all,
  probe_all,
)
from metajax.experiment.results_page import UNTRAINED
from metajax.mesh import host_batches, shard_batch, to_host
from metajax.train import TrainState, start
from metajax.types import Batches, Examples, Learner, Network, Params, State

EmbedFn = Callable

CURVE_KNOWN, CURVE_ASKED, CURVE_NEIGHBORS = 5000, 2000, 20  # of the k-NN curve during pretraining
SETTLING = 50  # batches that a random encoder's running statistics are taken over


class FrozenFeatures(NamedTuple):
  """Probes and few-shot tasks of what was pretrained, of the network as it started, and of pixels. An `Evaluator`.

  Attributes:
    name: of the learner, in the records.
    learner: as it is trained.
    optimizer: of the training, for the network as it started.
    encoder: the part that is kept; of several inputs `{name: Network}`, images first.
    parts: `() -> ProbeSplits`.
    setup: the flags.
    others: `{what sets them apart: embed}`: more features of the learner.
    choose: `(states, parts) -> Learner`: which features are looked at, by validation images.
  """

  name: str
  learner: Learner
  optimizer: optax.GradientTransformation
  encoder: Network | Mapping[str, Network]
  parts: Callable[[], ProbeSplits]
  setup: Setup
  others: Mapping[str, EmbedFn] = {}
  choose: Callable[[Sequence[TrainState], ProbeSplits], Learner] | None = None

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints the accuracies of all, and gives the records."""
    parts, data = self.parts(), self.setup.data
    seeds = range(trained.seed, trained.seed + len(trained.states))
    untrained = [self._untrained(batches, seed) for batches, seed in zip(trained.batches, seeds, strict=True)]
    beside = self.learner if self.choose is None else self.choose(untrained, parts)
    shown = [Representation(self.name, trained.learner.embed, trained.states)]
    shown += [Representation(self.name, embed, trained.states, (more,)) for more, embed in self.others.items()]
    shown += [Representation(UNTRAINED, beside.embed, untrained), PIXELS_AS_FEATURES]
    said = trained.said
    measured = probe_all(
      shown,
      parts.splits,
      about(data, parts),
      said | {"waiting_for_data": round(trained.waiting, 4)},
      lambda name, measure: published.representation(name, measure, slug(data)),
      parts.unseen,
    )
    learners = {self.name: (trained.learner, trained.states), UNTRAINED: (beside, untrained)}
    return measured + few_shot_all(learners, few_shot_tests(data, self.setup.probing, parts), said, parts.episodes)

  def _untrained(self, batches: Batches, seed: int) -> TrainState:
    """What the training started with, but for running statistics, which are those of views, as a trained one's are."""
    stream = iter(host_batches(batches))
    before = start(self.learner, self.optimizer, next(stream), seed)
    settle = jax.jit(lambda *given: self.learner.loss(*given)[1][0])
    state = before.state
    for i in range(SETTLING if jax.tree.leaves(state) else 0):
      last, state = state, settle(before.params, state, shard_batch(next(stream)), jax.random.fold_in(before.key, i))
      if all(np.array_equal(to_host(x), to_host(y)) for x, y in zip(*map(jax.tree.leaves, (last, state)), strict=True)):
        break  # it holds no statistics
    return before._replace(state=state)


def about(data: ImageData, parts: ProbeSplits) -> dict[str, Any]:
  """What records say of the images that representations are tested on."""
  split = "official/test" if not parts.unseen else f"{split_name(data)}, images apart"
  return {"data": slug(data), "split": split, "classes": len(parts.test.classes), "tested": len(parts.test.labels)}


def few_shot_tests(data: ImageData, probing: Probing, parts: ProbeSplits) -> FewShot:
  """The few-shot tasks of the data, where there are unseen classes."""
  queries = probing.test_queries
  tasks = test_batches(parts.episodes, settings_of(probing), queries) if parts.episodes else {}
  return FewShot((), lambda: tasks, queries, probing.test_tasks, about=tested_on(data))


def of_curve(parts: ProbeSplits) -> list[ImageDataset]:
  """Some training and some validation images."""
  return [first(part, n) for part, n in ((parts.train, CURVE_KNOWN), (parts.validation, CURVE_ASKED))]


def known_and_asked(embed: EmbedFn, params: Params, state: State, some: Sequence[ImageDataset]) -> list[Examples]:
  """Features of the images of `of_curve`."""
  return [embed_dataset(embed, params, state, eval_batches(part, batch_size=BATCH)) for part in some]


def accuracy_of_neighbors(known: Examples, asked: Examples) -> float:
  """In percent."""
  (answers,) = neighbor_classes(known, asked.inputs, [min(CURVE_NEIGHBORS, len(known.labels))]).values()
  return 100 * np.mean(answers == asked.labels)


def first(source: ImageDataset, most: int) -> ImageDataset:
  """At most so many images of a source, from all over it."""
  rows = np.linspace(0, len(source.labels) - 1, min(most, len(source.labels))).astype(int)
  return select_rows(source, rows)
