"""Evaluation of CLIP on held-out images: zero-shot classification, retrieval and probes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optax

from experiments.families.data import ImageData, slug
from experiments.families.image_text.config import Setup
from experiments.families.image_text.data import CATEGORIES, Data, Test
from experiments.families.representation.evaluators import about, few_shot_tests
from metajax.data import ImageDataset, eval_batches
from metajax.evaluate import (
  ZeroShot,
  embed_dataset,
  mean_and_ci,
  mean_over_seeds,
  prompts,
  retrieval,
  zero_shot,
  zero_shot_classifier,
)
from metajax.experiment import Record, Trained
from metajax.experiment.evaluators.probes import Representation, few_shot_all, probe_all
from metajax.experiment.types import title_of
from metajax.mesh import host_batches
from metajax.train import TrainState, start
from metajax.types import Learner, Network, Params, State

BATCH = 256  # images or texts embedded together
TEMPLATES = {"names": ("{}",), "groups": ("{}", "an image of {}", "this is {}")}


def named(learner: Learner, params: Params, state: State, test: Test, tokenize: Callable) -> ZeroShot:
  """Zero-shot classification of the images of a test, by the names of their classes or groups."""
  source, names, labels = test.source, [texts[0] for texts in test.source.captions], test.source.labels
  if test.kind == "groups":
    groups = sorted(set(source.superclasses))
    names = [CATEGORIES.get(group, group) for group in groups]
    labels = np.array([groups.index(group) for group in source.superclasses])[source.labels]
  texts, of_class = prompts(names, TEMPLATES[test.kind])
  classes = zero_shot_classifier(learner.embed, params, state, tokenize(texts), of_class)
  found = embed_dataset(learner.embed, params, state, eval_batches(source, batch_size=BATCH))
  return zero_shot(classes, found._replace(labels=labels))


def found(
  learner: Learner, params: Params, state: State, test: Test, tokenize: Callable, captions: int | None = None
) -> dict[str, dict]:
  """Retrieval between the images of a test and their captions, the first `captions` of each image."""
  images = embed_dataset(learner.embed, params, state, eval_batches(test.source, batch_size=BATCH))
  texts = [(i, text) for i, own in enumerate(test.source.captions) for text in own[:captions]]
  owner = np.array([i for i, _ in texts])
  tokens = tokenize([text for _, text in texts])
  embedded = zero_shot_classifier(learner.embed, params, state, tokens, np.arange(len(texts)))
  order = np.argsort(images.labels)
  return retrieval(images.inputs[order], embedded, owner)


class Transfer(NamedTuple):
  """Zero-shot, retrieval and probe scores of a CLIP, of its random initialization, and of pixels. An `Evaluator`.

  Attributes:
    name: Name of the learner in the records.
    variant: Variant of CLIP.
    data: `() -> Data`.
    tokenize: `texts -> tokens`.
    encoder: Image encoder, before the projection.
    setup: Shared flags.
    optimizer: Optimizer of the training, which the random initialization needs.
  """

  name: str
  variant: tuple[str, ...]
  data: Callable[[], Data]
  tokenize: Callable
  encoder: Network
  setup: Setup
  optimizer: optax.GradientTransformation

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints all scores, and returns the records."""
    data, images, said = self.data(), self.setup.data, trained.said
    measured = self._measured(self.name, self.variant, trained.learner, trained.states, said)
    none = said | {"train_seconds": 0, "steps": 0}
    untrained = start(trained.learner, self.optimizer, next(iter(host_batches(trained.batches[0]))), trained.seed)
    measured += self._measured("untrained", (), trained.learner, [untrained], none)
    if data.probes is not None:
      title = title_of(self.name, self.variant)
      own = Representation(self.name, trained.learner.embed, trained.states, self.variant)
      measured += by_pixels(data, images, trained)
      measured += probe_all([own], data.probes.splits, about(images, data.probes), said, unseen=data.probes.unseen)
      tests = few_shot_tests(images, self.setup.probing, data.probes)
      measured += few_shot_all({title: (trained.learner, trained.states)}, tests, said)
    return measured

  def _measured(
    self, name: str, variant: tuple[str, ...], learner: Learner, states: Sequence[TrainState], said: Mapping[str, Any]
  ) -> list[Record]:
    measured, title = [], title_of(name, variant)
    for test in self.data().tests:
      each = [_scores(learner, state.params, state.state, test, self.tokenize) for state in states]
      for what, (_, chance) in each[0].items():
        score = mean_over_seeds([scores[what][0] for scores in each])
        print(f"  {title}: {test.name}, {what.replace('_', ' ')}: {score}% (chance {chance:.2g}%)")
        seeds = self.setup.training.seeds
        measured.append(_record(name, variant, test, what, score, chance, self.setup.data, seeds, said))
    return measured


def _scores(learner, params, state, test, tokenize) -> dict:
  """Returns `{measure: (Score, chance in percent)}` of one network on one test."""
  if test.kind == "captions":
    several = len(set(map(len, test.source.captions))) == 1
    ways = found(learner, params, state, test, tokenize, None if several else 1)
    number = len(test.source.classes)
    chance = lambda k: 100 * k / number  # for image to text too, up to the second digit
    return {f"{way}_at_{k}": (score, chance(k)) for way, scores in ways.items() for k, score in scores.items()}
  result = named(learner, params, state, test, tokenize)
  classes = len(result.per_class)
  what = "zero_shot" if test.kind == "names" else "zero_shot_of_groups"
  return {what: (result.top_1, 100 / classes), f"{what}_top_5": (result.top_5, 100 * min(5, classes) / classes)}


def _record(name, variant, test, what, score, chance, data, seeds, said) -> Record:
  more = {"data": slug(data), "split": test.name, "classes": len(test.source.classes)}
  more |= {"tested": len(test.source.labels), "chance": round(chance, 4), "seeds": seeds, **said}
  return Record(name, what, round(score.mean, 2), round(score.ci95, 2), variant, None, more)


def by_pixels(data: Data, images: ImageData, trained: Trained) -> list[Record]:
  """Prints the accuracy of naming images by their nearest neighbors in pixels, and returns the records."""
  measured = []
  for test in (test for test in data.tests if test.kind == "names"):
    assert isinstance(data.train, ImageDataset)  # shards are tested by captions
    score, chance = mean_and_ci(100.0 * nearest_names(data.train, test.source)), 100 / len(test.source.classes)
    print(f"  pixels, nearest name: {test.name}, zero shot: {score}% (chance {chance:.2g}%)")
    said, seeds = trained.said_untrained, len(trained.states)
    measured.append(_record("pixels", ("nearest name",), test, "zero_shot", score, chance, images, seeds, said))
  return measured


def nearest_names(known: ImageDataset, asked: ImageDataset) -> np.ndarray:
  """Accuracy of naming each image by its nearest known image in pixels, `[n]` in [0, 1].

  The prediction is the name that shares the most words with the name of the neighbor, as pixels alone cannot name an
  unseen class. Ties share the score.
  """
  words = lambda source: [frozenset(texts[0].split()) for texts in source.captions]
  shared = np.array([[len(a & b) / len(a | b) for b in words(asked)] for a in words(known)])
  flat = lambda images: np.float32(np.asarray(images)).reshape(len(images), -1) / 255
  library, right = flat(known.images[:]), []
  squares = np.square(library).sum(-1)
  for row in range(0, len(asked.labels), BATCH):
    part = slice(row, row + BATCH)
    nearest = known.labels[(squares - 2 * flat(asked.images[part]) @ library.T).argmin(-1)]
    best = shared[nearest] == shared[nearest].max(-1, keepdims=True)
    right.append(np.take_along_axis(best, asked.labels[part, None], 1)[:, 0] / best.sum(-1))
  return np.concatenate(right)
