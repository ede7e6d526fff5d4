"""Weighted mixtures of sources, as pure functions of the step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.pipeline import ROUNDS, plain
from metajax.data.sharding import ENDLESS, mask_of_host
from metajax.data.shards.captioned import ImageTexts
from metajax.data.source import ImageDataset
from metajax.types import Batch, Batches

LARGEST_TABLE = 2**16  # rows whose order is a table; the cipher of fewer takes long
PERIOD = 1000  # rows in which each source occurs exactly as often as its weight says


class Mixture(NamedTuple):
  """Sources that batches are drawn from by weight; see `mixture`.

  Attributes:
    sources: the sources.
    weights: share of each one's rows in the batches; they sum to 1.
  """

  sources: tuple[ImageDataset | ImageTexts, ...]
  weights: tuple[float, ...]


def mixture(sources: Sequence[ImageDataset | ImageTexts], weights: Sequence[float]) -> Mixture:
  """A weighted mixture of sources, for `train_batches` (labeled images) or `image_texts` (images with captions).

  Every 1,000 rows hold each source as often as its weight says, in a random order of (seed, which 1,000); each source
  goes through epochs of its own. The place of a row in its source's epochs is known without drawing the rows before it.

  Args:
    sources: two or more, with images of one shape, whose classes of one name are one class; for `train_batches` no
      `ImageTexts`.
    weights: a positive number each; only their ratios matter, rounded to thousandths of the rows.

  Returns:
    A `Mixture`.

  Raises:
    ValueError: if there are fewer than two sources, or of several shapes, or a weight is not positive, or below a
      thousandth of their sum.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> a, b = (data.from_arrays(np.full((6, 8, 8, 1), i, np.uint8), [0, 1] * 3) for i in range(2))
    >>> batch = next(data.train_batches(data.mixture([a, b], [0.9, 0.1]), batch_size=1000)())
    >>> int((batch.inputs[:, 0, 0, 0] == 0).sum())
    900
  """
  sources, weights = tuple(sources), tuple(weights)
  if len(sources) < 2 or not all(isinstance(source, ImageDataset | ImageTexts) for source in sources):
    given = ", ".join(map(checks.describe, sources))
    raise ValueError(f"expected two or more sources, each an ImageDataset or ImageTexts, got {given or 'none'}")
  shapes = {source.images.shape[1:] for source in sources}
  if len(shapes) > 1:
    raise ValueError(f"expected images of one shape in all sources, got {' and '.join(map(str, sorted(shapes)))}")
  for weight in weights:
    checks.positive("each of the weights", weight)
  if len(weights) != len(sources):
    raise ValueError(f"expected a weight for each of {len(sources)} sources, got {len(weights)}")
  found = Mixture(sources, tuple(float(weight) / sum(weights) for weight in weights))
  if not _counts(found.weights).all():
    raise ValueError(f"expected weights of at least a thousandth of their sum, got {list(weights)}")
  return found


def mixed_batches(
  sizes: Sequence[int],
  weights: Sequence[float],
  parts: Sequence[Callable[[tf.data.Dataset], Iterator[Batch]]],
  batch_size: int,
  seed: int,
  join: Callable[[list[Batch]], list[Batch]] = list,
) -> Batches:
  """Batches whose rows come from several sources.

  Args:
    sizes: number of rows of each source.
    weights: as in `Mixture`.
    parts: for each source, a function from a dataset of (rows of the source that a batch holds, whether each is this
      host's, its place in the batch, the batch's step) to an iterator of batches of this host's rows alone.
    batch_size, seed: as for `train_batches`.
    join: makes the batches of a step alike in all but their first axis.
  """
  counts = _counts(weights)

  def batches(start=0, shard=(0, 1)):
    mine = mask_of_host(start, shard, batch_size)

    def rows_of(source):
      def rows(step):
        of, place = _places(counts, batch_size, seed, int(step))
        chosen = of == source
        return _shuffled(place[chosen], sizes[source], seed, source, len(sizes)), mine[chosen], np.flatnonzero(chosen)

      def drawn(step):
        found = tf.numpy_function(rows, [step], (tf.int64, tf.bool, tf.int64), stateful=False)
        return *(tf.ensure_shape(each, [None]) for each in found), step

      return tf.data.Dataset.range(start, ENDLESS // batch_size).map(plain(drawn))

    return together(start, mine, [part(rows_of(source)) for source, part in enumerate(parts)])

  def together(start, mine, iterators):
    for step, *found in zip(itertools.count(start), *iterators, strict=False):
      of = _places(counts, batch_size, seed, step)[0][mine]
      back = np.argsort(np.argsort(of, kind="stable"), kind="stable")
      yield tf.nest.map_structure(lambda *leaves, back=back: np.concatenate(leaves)[back], *join(found))

  return batches


def _counts(weights):
  """The rows of each source in a period, by largest remainders."""
  exact = np.array(weights) * PERIOD
  counts = np.floor(exact + 1e-9).astype(np.int64)
  counts[np.argsort(counts - exact, kind="stable")[: PERIOD - counts.sum()]] += 1
  return counts


def _integers(number, seed, index):
  """`number` independent 64-bit integers, a pure function of (seed, index), by a stream that NumPy has frozen."""
  key = [value % 2**64 for value in (seed, index)]
  return np.random.Philox(key=np.array(key, np.uint64)).random_raw(number).view(np.int64)


def _places(counts, batch_size, seed, step):
  """The source of each row of a batch, and the row's place in the endless stream of that source."""
  period, slot = np.divmod(step * batch_size + np.arange(batch_size), PERIOD)
  table = np.repeat(np.arange(len(counts)), counts)
  # The orders of epochs have the indices from 0 on.
  periods = range(period[0], period[-1] + 1)
  of = np.stack([table[np.argsort(_integers(PERIOD, seed, -1 - one), kind="stable")] for one in periods])
  place = np.zeros_like(of)
  for source, count in enumerate(counts):
    place[of == source] = np.tile(np.arange(count), len(of))
  here = period - period[0], slot
  return of[here], period * counts[of[here]] + place[here]


def _shuffled(place, number, seed, source, sources):
  """The rows at some places of a source's endless stream: every row once an epoch, in a random order."""
  (epoch, place), rows = np.divmod(place, number), np.empty_like(place)
  for one in np.unique(epoch).tolist():
    here, index = epoch == one, one * sources + source
    if number <= LARGEST_TABLE:
      rows[here] = np.argsort(_integers(number, seed, index), kind="stable")[place[here]]
    else:
      key, most = _integers(3, seed, index), np.int64(number - 1)
      rows[here] = tf.raw_ops.RandomIndexShuffle(index=place[here], seed=key, max_index=most, rounds=ROUNDS).numpy()
  return rows
