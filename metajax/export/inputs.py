"""The inputs of a training batch that a learner's `embed` takes, and a task made of them."""

import jax
import numpy as np

from metajax.pixels import images_to_float
from metajax.types import Batch, Episode, Examples, Inputs, Padded, Pair

WAYS = 3  # of the example of an export
ROWS = 9


def inputs_of(batch: Batch) -> Inputs:
  """Returns the inputs that `embed` takes: of episodes those of a task, of pairs the first, of triplets the anchors."""
  if isinstance(batch, Episode):
    inputs = jax.tree.map(lambda x: x[0], batch.support.inputs)
    return _real(inputs, np.asarray(inputs.mask)) if isinstance(inputs, Padded) else inputs
  if isinstance(batch, Examples):
    return inputs_of(batch.inputs) if isinstance(batch.inputs, Pair) else batch.inputs
  if isinstance(batch, Pair):
    return batch.first
  return batch["anchor"] if isinstance(batch, dict) and "anchor" in batch else batch


def example_of(batch: Batch) -> Episode:
  """Returns a small task for the example of an export, as NumPy arrays, with images in [0, 1].

  The task of an episode has its own labels; of padded rows it has none, and of the others the first of each way. Other
  batches have no labels that fit, so that their rows get classes in turn.
  """
  if isinstance(batch, Episode):
    task = images_to_float(jax.tree.map(lambda x: np.asarray(x[0]), batch))
    return Episode(*map(_without_padding, task))
  inputs = inputs_of(images_to_float(batch))
  rows = len(jax.tree.leaves(inputs)[0])
  chosen = np.arange(2 * ROWS) % rows
  labels = np.eye(WAYS, dtype=np.float32)[np.arange(ROWS) % WAYS]
  take = lambda index: jax.tree.map(lambda x: np.asarray(x)[index], inputs)  # noqa: E731
  return Episode(Examples(take(chosen[:ROWS]), labels), Examples(take(chosen[ROWS:]), labels))


def _without_padding(examples: Examples) -> Examples:
  """The first example of each way if rows are padded, else all."""
  if not isinstance(examples.inputs, Padded):
    return examples
  rows = np.flatnonzero(examples.inputs.mask)
  firsts = rows[np.unique(examples.labels[rows].argmax(-1), return_index=True)[1]]
  return Examples(_real(examples.inputs, firsts), examples.labels[firsts])


def _real(inputs: Padded, rows: np.ndarray) -> Inputs:
  return jax.tree.map(lambda x: np.asarray(x)[rows], inputs.values)
