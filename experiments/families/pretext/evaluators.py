"""How well a network answers what its pretext task asks of images that it has not seen, and what it answered."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families.data import ImageData
from experiments.families.representation.data import ProbeSplits
from experiments.families.representation.evaluators import about
from metajax.data import ImageDataset, Recordings, eval_batches, recordings_in_order, select_recordings, select_rows
from metajax.evaluate import mean_and_ci, mean_over_seeds
from metajax.experiment import Record, Trained
from metajax.experiment.results_page import PRETEXTS
from metajax.mesh import process_shard, replicate, shard_padded, to_host
from metajax.report import predictions_figure
from metajax.shards import host_slice

BATCH = 256  # asked at once: negatives are of other images of a batch
SHOWN = 12  # questions on a page
TEST_SEED = 7  # of what is asked


class PretextEval(NamedTuple):
  """What is asked of examples that were not trained on.

  Attributes:
    measure: of the record.
    task: `(key, batch) -> Examples`, one question about each example of the batch.
    source: an `ImageDataset`, or `Recordings`.
    chance: percent.
    rows: which of the examples count; by default all. Others stay, to be negatives of these.
    groups: of the examples, `[n]`, where those of one are not independent: the interval is over groups, two at least.
    rounds: how many questions about each example.
  """

  measure: str
  task: Callable
  source: ImageDataset | Recordings
  chance: float
  rows: np.ndarray | None = None
  groups: np.ndarray | None = None
  rounds: int = 1


def scores_of(question: PretextEval, answer: Callable, trained: Sequence[tuple]) -> list:
  """For each seed's (params, state), a `Score` in percent: of each example the mean of its answers, over examples.

  Questions are drawn of whole batches, on every host alike, so that they do not depend on hosts or devices; each host
  then answers its share.
  """
  ask, right, scores = jax.jit(question.task), jax.jit(lambda *given: _right(answer, *given)), []
  count = len(question.source.images)
  size = -(-count // -(-count // BATCH))  # batches as even as can be
  size += count % size == 1  # of one example alone nothing can be asked
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
  """How well a network answers what its pretext task asks of what it was not trained on. An `Evaluator`.

  Attributes:
    name: of the learner, in the records.
    questions: `parts -> [PretextEval]`.
    answer: `(params, state, inputs) -> logits`.
    parts: `() -> ProbeSplits`.
    data: which images.
  """

  name: str
  questions: Callable[[ProbeSplits], list[PretextEval]]
  answer: Callable
  parts: Callable[[], ProbeSplits]
  data: ImageData

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints the share of right answers to each question, and gives the records."""
    parts = self.parts()
    print(f"\n{self.name}, about what was not trained on")
    return [self._record(question, trained, parts) for question in self.questions(parts)]

  def _record(self, question: PretextEval, trained: Trained, parts: ProbeSplits) -> Record:
    states = [(state.params, state.state) for state in trained.states]
    score = mean_over_seeds(scores_of(question, self.answer, states))
    asked = question.rounds * int(len(question.source.images) if question.rows is None else np.sum(question.rows))
    print(f"  {PRETEXTS[question.measure]}: {score}% of {asked:,} questions, chance {question.chance:.2f}%")
    said = {**about(self.data, parts), "asked": asked, "chance": round(question.chance, 2)}
    said |= trained.said | {"seeds": len(states)}
    return Record(self.name, question.measure, round(score.mean, 2), round(score.ci95, 2), about=said)


def figure(question: PretextEval, answer: Callable, trained: tuple, names: Sequence[str], show: Callable, path: Path):
  """Draws some questions, and what was answered.

  Args:
    question: of which a first batch is asked.
    answer: of the network.
    trained: its params and state.
    names: of the task's classes.
    show: `(inputs of a task) -> images [n, h, w, c]`.
    path: of the figure.
  """
  count = len(question.source.images)
  rows = np.linspace(0, count - 1, min(BATCH, count)).astype(int)
  source = question.source
  some = select_recordings(source, rows) if isinstance(source, Recordings) else select_rows(source, rows)
  asked = question.task(jax.random.key(TEST_SEED), next(_in_order(some, len(rows))()))
  sure = np.asarray(jax.nn.softmax(answer(*trained, asked.inputs)))[:SHOWN]
  images = show(jax.tree.map(lambda x: np.asarray(x[:SHOWN]), asked.inputs))
  truth, said = ([names[k] for k in np.argmax(x, -1)] for x in (asked.labels[:SHOWN], sure))
  predictions_figure(images, truth, said, path, confidence=sure.max(-1))


def _right(answer, params, state, asked):
  """1 for an answer that is right, 0 for a wrong one, NaN where there is none: the largest of NaNs is the first."""
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
  """Batches of a source's inputs, as the learner has them."""
  if isinstance(source, Recordings):
    return recordings_in_order(source, batch_size=size)
  labeled = eval_batches(source, batch_size=size)
  return lambda *given: (batch.inputs for batch in labeled(*given))
