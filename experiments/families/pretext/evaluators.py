"""Accuracy of a network on held-out questions of its pretext task, and a figure of its answers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families.data import ImageData
from experiments.families.representation.data import ProbeSplits
from experiments.families.representation.evaluators import about
from metajax.data import ImageDataset, Recordings, eval_batches, eval_recording_batches, select_recordings, select_rows
from metajax.evaluate import mean_and_ci, mean_over_seeds
from metajax.experiment import Record, Trained
from metajax.experiment.results_page import PRETEXTS
from metajax.mesh import process_shard, replicate, shard_padded, to_host
from metajax.pixels import images_to_float
from metajax.report import predictions_figure
from metajax.shards import host_slice

BATCH = 256  # questions per batch: negatives come from other images of a batch
SHOWN = 12  # questions on a page
TEST_SEED = 7  # of the questions


class PretextEval(NamedTuple):
  """A pretext test on held-out examples.

  Attributes:
    measure: Measure of the record.
    task: `(key, batch) -> Examples`, one question per example of the batch.
    source: Held-out `ImageDataset` or `Recordings`.
    chance: Accuracy at chance level, in percent.
    rows: Mask `[n]` of the examples that count; by default all. The others still serve as negatives.
    groups: Group of each example, `[n]`, if examples of a group are not independent: intervals are over groups, at
      least two.
    rounds: Questions per example.
  """

  measure: str
  task: Callable
  source: ImageDataset | Recordings
  chance: float
  rows: np.ndarray | None = None
  groups: np.ndarray | None = None
  rounds: int = 1


def scores_of(question: PretextEval, answer: Callable, trained: Sequence[tuple]) -> list:
  """Computes a `Score` in percent for each seed's (params, state): the mean accuracy per example, over examples.

  Every host draws the questions of full batches, so that they do not depend on hosts or devices, and answers its share.
  """
  ask = jax.jit(lambda key, batch: question.task(key, images_to_float(batch)))
  right, scores = jax.jit(lambda *given: _right(answer, *given)), []
  count = len(question.source.images)
  size = -(-count // -(-count // BATCH))  # batches of nearly equal size
  size += count % size == 1  # a single example has no negatives
  keys = jax.random.split(jax.random.key(TEST_SEED), (question.rounds, -(-count // size)))
  for params, state in trained:
    shared, found = replicate((params, state)), np.zeros((question.rounds, count))
    for i in range(question.rounds):
      answered = []
      for key, batch in zip(keys[i], _in_order(question.source, size)(), strict=True):
        asked = jax.tree.map(np.asarray, ask(key, batch))
        own, there = shard_padded(jax.tree.map(lambda x: x[host_slice(len(asked.labels), process_shard())], asked))  # noqa: B023
        answered.append(to_host(right(*shared, own))[there])
      found[i] = np.concatenate(answered)
    scores.append(mean_and_ci(100 * _by_group(found.mean(0), question)))
  return scores


class PretextAccuracy(NamedTuple):
  """Accuracy of a network on held-out questions of its pretext task. An `Evaluator`.

  Attributes:
    name: Name of the learner in the records.
    questions: `parts -> [PretextEval]`.
    answer: `(params, state, inputs) -> logits`.
    parts: `() -> ProbeSplits`.
    data: Flags that select the images.
  """

  name: str
  questions: Callable[[ProbeSplits], list[PretextEval]]
  answer: Callable
  parts: Callable[[], ProbeSplits]
  data: ImageData

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints the accuracy on each test, and returns the records."""
    parts = self.parts()
    print(f"\n{self.name}, accuracy on held-out examples")
    return [self._record(question, trained, parts) for question in self.questions(parts)]

  def _record(self, question: PretextEval, trained: Trained, parts: ProbeSplits) -> Record:
    states = [(state.params, state.state) for state in trained.states]
    score = mean_over_seeds(scores_of(question, self.answer, states))
    asked = question.rounds * int(len(question.source.images) if question.rows is None else np.sum(question.rows))
    print(f"  {PRETEXTS[question.measure]}: {score}% over {asked:,} questions, chance {question.chance:.2f}%")
    said = {**about(self.data, parts), "asked": asked, "chance": round(question.chance, 2)}
    said |= trained.said | {"seeds": len(states)}
    return Record(self.name, question.measure, round(score.mean, 2), round(score.ci95, 2), about=said)


def figure(question: PretextEval, answer: Callable, trained: tuple, names: Sequence[str], show: Callable, path: Path):
  """Draws questions of one batch with the network's answers.

  Args:
    question: Pretext test.
    answer: `(params, state, inputs) -> logits` of the network.
    trained: Params and state of the network.
    names: Names of the task's classes.
    show: `(inputs of a task) -> images [n, h, w, c]`.
    path: Path of the figure.
  """
  count = len(question.source.images)
  rows = np.linspace(0, count - 1, min(BATCH, count)).astype(int)
  source = question.source
  some = select_recordings(source, rows) if isinstance(source, Recordings) else select_rows(source, rows)
  asked = question.task(jax.random.key(TEST_SEED), images_to_float(next(_in_order(some, len(rows))())))
  sure = np.asarray(jax.nn.softmax(answer(*trained, asked.inputs)))[:SHOWN]
  images = show(jax.tree.map(lambda x: np.asarray(x[:SHOWN]), asked.inputs))
  truth, said = ([names[k] for k in np.argmax(x, -1)] for x in (asked.labels[:SHOWN], sure))
  predictions_figure(images, truth, said, path, confidence=sure.max(-1))


def _right(answer, params, state, asked):
  """1 for a correct answer, 0 for a wrong one, NaN for non-finite logits, whose argmax would be the first class."""
  said = answer(params, state, asked.inputs)
  right = jnp.argmax(said, -1) == jnp.argmax(asked.labels, -1)
  return jnp.where(jnp.isfinite(said).all(-1), right, jnp.nan)


def _by_group(right: np.ndarray, question: PretextEval) -> np.ndarray:
  counted = slice(None) if question.rows is None else np.flatnonzero(question.rows)
  if question.groups is None:
    return right[counted]
  groups = question.groups[counted]
  return np.array([right[counted][groups == group].mean() for group in np.unique(groups)])


def _in_order(source, size: int) -> Callable:
  """Batches of the inputs of a source, as the learner receives them."""
  if isinstance(source, Recordings):
    return eval_recording_batches(source, batch_size=size)
  labeled = eval_batches(source, batch_size=size)
  return lambda *given: (batch.inputs for batch in labeled(*given))
