"""Evaluation of frozen features, with a random encoder and pixels as baselines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.families import published
from experiments.families.data import ImageData, slug, split_name, tested_on
from experiments.families.few_shot.sizes import TaskSize, fit
from experiments.families.few_shot.tasks import test_batches
from experiments.families.image_flags import is_user_supplied, seen
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
from metajax.pixels import images_to_float
from metajax.train import TrainState, start
from metajax.types import Batches, Examples, Learner, Network, Params, State

EmbedFn = Callable

CURVE_KNOWN, CURVE_ASKED, CURVE_NEIGHBORS = 5000, 2000, 20  # of the k-NN curve during pretraining
SETTLING = 50  # batches for the running statistics of a random encoder


class FrozenFeatures(NamedTuple):
  """Probes and few-shot tests of pretrained features, of random initialization, and of pixels. An `Evaluator`.

  Attributes:
    name: Name of the learner in the records.
    learner: Learner as trained.
    optimizer: Optimizer of the training, which the random initialization needs.
    encoder: Pretrained encoder, or `{name: Network}` for several inputs, images first.
    parts: `() -> ProbeSplits`.
    setup: Shared flags.
    others: `{variant: embed}`: further features of the learner.
    choose: `(states, parts) -> Learner`: selects the features by validation images.
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
    """Prints all accuracies, and returns the records."""
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
    return measured + few_shot_all(
      learners, few_shot_tests(data, self.setup.probing, parts, quiet=True), said, parts.episodes
    )

  def _untrained(self, batches: Batches, seed: int) -> TrainState:
    """The random initialization, with running statistics of views, as after training."""
    stream = iter(host_batches(batches))
    before = start(self.learner, self.optimizer, next(stream), seed)
    settle = jax.jit(lambda p, s, batch, key: self.learner.loss(p, s, images_to_float(batch), key)[1][0])
    state = before.state
    for i in range(SETTLING if jax.tree.leaves(state) else 0):
      last, state = state, settle(before.params, state, shard_batch(next(stream)), jax.random.fold_in(before.key, i))
      if all(np.array_equal(to_host(x), to_host(y)) for x, y in zip(*map(jax.tree.leaves, (last, state)), strict=True)):
        break  # the state holds no statistics
    return before._replace(state=state)


def about(data: ImageData, parts: ProbeSplits) -> dict[str, Any]:
  """Entries on the test images in the records."""
  if seen(data):
    split = split_name(data)
  else:
    split = f"{split_name(data)}, held-out images" if parts.unseen else "official/test"
  return {"data": slug(data), "split": split, "classes": len(parts.test.classes), "tested": len(parts.test.labels)}


def few_shot_tests(data: ImageData, probing: Probing, parts: ProbeSplits, quiet: bool = False) -> FewShot:
  """The few-shot evaluator of the data, without tests if the data have no images for tasks.

  Args:
    data: Flags that select the data.
    probing: Flags of the tests.
    parts: Parts of the data.
    quiet: True if a reduction of ways and queries, as by `fit`, is not printed.
  """
  queries = probing.test_queries
  sizes = [TaskSize(*test, queries) for test in settings_of(probing)]
  if parts.episodes and sizes and is_user_supplied(data):
    sizes = fit("test", parts.episodes, sizes, quiet=quiet)
  tasks = test_batches(parts.episodes, sizes) if parts.episodes else {}
  fitted = {(size.ways, size.shots): size.queries for size in sizes}
  return FewShot(
    (),
    lambda: tasks,
    queries,
    probing.test_tasks,
    about=tested_on(data),
    queries_of=lambda: fitted,
    unseen=not seen(data),
  )


def of_curve(parts: ProbeSplits) -> list[ImageDataset]:
  """Subsets of the training and the validation images, for the k-NN curve."""
  return [first(part, n) for part, n in ((parts.train, CURVE_KNOWN), (parts.validation, CURVE_ASKED))]


def known_and_asked(embed: EmbedFn, params: Params, state: State, some: Sequence[ImageDataset]) -> list[Examples]:
  """Features of the images of `of_curve`."""
  return [embed_dataset(embed, params, state, eval_batches(part, batch_size=BATCH)) for part in some]


def accuracy_of_neighbors(known: Examples, asked: Examples) -> float:
  """k-NN accuracy in percent."""
  (answers,) = neighbor_classes(known, asked.inputs, [min(CURVE_NEIGHBORS, len(known.labels))]).values()
  return 100 * np.mean(answers == asked.labels)


def first(source: ImageDataset, most: int) -> ImageDataset:
  """At most `most` images of a source, evenly spaced."""
  rows = np.linspace(0, len(source.labels) - 1, min(most, len(source.labels))).astype(int)
  return select_rows(source, rows)
