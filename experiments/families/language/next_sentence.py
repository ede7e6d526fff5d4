"""Tests of BERT: whether a segment follows another, masked tokens, and probes of frozen features of texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.families.language.segments import Segments, Texts
from metajax.evaluate import embed_dataset, mean_and_ci, mean_over_seeds
from metajax.experiment import Record, Trained
from metajax.experiment.evaluators.probes import BATCH, Representation, probe_all
from metajax.experiment.results_page import UNTRAINED
from metajax.train import start
from metajax.types import AnyArray, Array, EmbedFn, Examples, Learner, Pair, Params, State

MASKS = 0  # seed of the masks in tests
WORDS = "words in common"
WIDTH = 128


class NextSentence(NamedTuple):
  """Accuracy on test pairs, half of which are of two subjects, and bits per masked token. An `Evaluator`.

  Attributes:
    name: Name of the learner in the records.
    variant: What is predicted.
    answer: `(params, state, Pair) -> logits [n, 2]`; None if it is not learned.
    loss: Loss of the learner, whose metrics hold the bits; None if no tokens are masked.
    segments: Pairs of each part.
    about: Entries on the data in the records.
  """

  name: str
  variant: tuple[str, ...]
  answer: EmbedFn | None
  loss: Callable | None
  segments: Segments
  about: dict[str, Any]

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints the figures, and returns the records."""
    measured, test = [], asked(self.segments, "test")
    said = trained.said | {"seeds": len(trained.states)}
    if self.answer:
      right = [test.right(test.answers(self.answer, one.params, one.state)) for one in trained.states]
      guessed = test.right(_words(self.segments, test.pairs))
      for name, variant, some, training in (
        (self.name, self.variant, right, said),
        (WORDS, (), [guessed], trained.said_untrained),
      ):
        score = mean_over_seeds([test.score(one) for one in some])
        more = {**self.about, "classes": 2, "tested": len(test.follows), "chance": 50.0, **training}
        value, interval = round(score.mean, 2), round(score.ci95, 2)
        measured.append(Record(name, "pretext", value, interval, variant, None, more))
        print(f"  does it follow? {', '.join((name, *variant)):<32} {score}%")
    if self.loss:
      bits, pairs = bits_of(self.loss), self.segments.pairs["test"]
      found = np.mean([bits(one.params, one.state, pairs) for one in trained.states])
      print(f"  bits per masked token: {found:.3f}")
    return measured


class Asked(NamedTuple):
  """Pairs, which of them follow, and their subjects."""

  pairs: Pair
  follows: np.ndarray
  about: np.ndarray

  def answers(self, answer: EmbedFn, params: Params, state: State) -> np.ndarray:
    """1 for each pair whose second segment is taken to follow, by logits `[n, 2]`."""
    return embed_dataset(answer, params, state, _batched(self.pairs, self.follows)).inputs.argmax(-1)

  def right(self, answered: AnyArray) -> np.ndarray:
    """Whether each answer is right."""
    return np.asarray(answered).astype(bool) == self.follows

  def score(self, right: np.ndarray):
    """Percent right, with an interval over subjects."""
    subjects, which = np.unique(self.about, return_inverse=True)
    count = np.bincount(which, minlength=len(subjects))
    return mean_and_ci(100 * np.bincount(which, right, len(subjects)) / count)


def asked(segments: Segments, part: str) -> Asked:
  """Each pair of a part, and each first segment with the second one of a pair of another subject."""
  pair, about = segments.pairs[part], segments.about[part]
  count = len(about)
  other = (np.arange(count) + max(1, count // 2)) % count
  apart = about != about[other]
  pairs = Pair(
    np.concatenate([pair.first, pair.first[apart]]), np.concatenate([pair.second, pair.second[other][apart]])
  )
  return Asked(pairs, np.arange(len(pairs.first)) < count, np.concatenate([about, about[apart]]))


def bits_of(loss: Callable) -> Callable[[Any, Any, Pair], float]:
  """`(params, state, pairs) -> bits per masked token`, under masks of one seed."""
  run = jax.jit(lambda params, state, some, key: loss(params, state, some, key)[1][1]["bits"])

  def bits(params, state, pairs):
    some = [one.inputs for one in _batched(pairs, pairs.first)][: len(pairs.first) // BATCH or 1]  # of one size
    keys = jax.random.split(jax.random.key(MASKS), len(some))
    return float(np.mean([run(params, state, one, key) for one, key in zip(some, keys, strict=True)]))

  return bits


class TextProbes(NamedTuple):
  """Probes of the category of a text by frozen features, beside a random encoder and words. An `Evaluator`.

  Attributes:
    name, variant: Of the learner in the records.
    learner: Whose `embed` is probed.
    parts: Training, validation and test texts.
    about: Entries on the data in the records.
  """

  name: str
  variant: tuple[str, ...]
  learner: Learner
  parts: Sequence[Texts]
  about: dict[str, Any]

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints the table, and returns the records."""
    of_texts = self.parts[0].tokens[:2]
    nothing = start(self.learner, optax.identity(), Pair(of_texts, of_texts), trained.seed)
    words = lambda params, state, tokens: jax.vmap(_bag)(jnp.asarray(tokens))
    shown = [
      Representation(self.name, self.learner.embed, trained.states, self.variant),
      Representation(UNTRAINED, self.learner.embed, [nothing], trained=False),
      Representation("random vectors of words", words, [nothing], trained=False),
    ]
    about = self.about | {"classes": len(self.parts[-1].classes), "tested": len(self.parts[-1].labels)}
    return probe_all(shown, self.parts, about, trained.said, batches=_labeled, things="texts")


def _labeled(part: Texts) -> Iterator[Examples]:
  return _batched(part.tokens, part.labels)


def _batched(inputs: Any, labels: np.ndarray) -> Iterator[Examples]:
  for first in range(0, len(labels), BATCH):
    rows = slice(first, first + BATCH)
    yield Examples(jax.tree.map(lambda x: x[rows], inputs), labels[rows])  # noqa: B023


def _bag(tokens: Array) -> Array:
  """The sum of random vectors of a text's tokens: what its words alone tell."""
  vectors = jax.vmap(lambda token: jax.random.normal(jax.random.fold_in(jax.random.key(0), token), (WIDTH,)))(tokens)
  return jnp.where(tokens[:, None] >= 0, vectors, 0).sum(0)


def _words(segments: Segments, pairs: Pair) -> np.ndarray:
  """1 for each pair with more tokens in common than the best number on validation pairs."""
  known = asked(segments, "validation")
  common = _in_common(known.pairs)
  best = max(range(common.max() + 2), key=lambda least: float(known.right(common >= least).mean()))
  return _in_common(pairs) >= best


def _in_common(pairs: Pair) -> np.ndarray:
  return np.array([len(set(a[a >= 0]) & set(b[b >= 0])) for a, b in zip(*pairs, strict=True)])
