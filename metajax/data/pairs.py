"""Pairs, triplets and balanced batches of labeled images, as pure functions of (seed, step)."""

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.episodes import draw_task
from metajax.data.pipeline import check_batches, constant, plain, random_integers, reader
from metajax.data.sharding import ENDLESS, rows_of_host
from metajax.data.source import ImageDataset, check_source
from metajax.types import Batches, Examples, Pair


def pairs(source: ImageDataset, *, batch_size: int, seed: int = 0, within_superclass: bool = False) -> Batches:
  """Batches of image pairs for verification: every other pair shares a class, the others do not.

  The class of the first image is drawn uniformly, and so is a different class for the second image. No image is paired
  with itself. Pair `p` of batch `i` is drawn with the key (seed, i * batch_size + p) alone.

  Args:
    source: an `ImageDataset`.
    batch_size: pairs per batch, over all hosts.
    seed: any 64-bit integer.
    within_superclass: whether the two classes of a pair share a superclass.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of `Examples`: inputs a `Pair` of uint8
    `[batch_size/hosts, height, width, channels]`, labels one-hot float32 `[batch_size/hosts, 2]`: different,
    same.

  Raises:
    ValueError: if a class has one image, the source (or, with `within_superclass`, a superclass) has one class, or
      `batch_size` is below 1.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((6, 8, 8, 1), np.uint8), np.arange(6) % 3)
    >>> batch = next(data.pairs(source, batch_size=4)())
    >>> batch.inputs.first.shape, batch.labels[:, 1].tolist()
    ((4, 8, 8, 1), [1.0, 0.0, 1.0, 0.0])
  """
  rows, read = _draw_triplet(source, batch_size, seed, within_superclass), reader(source.images)

  def batches(start=0, shard=(0, 1)):
    def pair(counter):
      anchor, positive, negative = rows(counter)
      same = counter % batch_size % 2 == 0
      return Examples(Pair(anchor, tf.where(same, positive, negative)), tf.one_hot(tf.cast(same, tf.int32), 2))

    return read(_each(pair, start, shard, batch_size))

  return batches


def triplets(source: ImageDataset, *, batch_size: int, seed: int = 0, within_superclass: bool = False) -> Batches:
  """Batches of triplets: two different images of one class, and one of another class, all drawn uniformly.

  Arguments and exceptions are those of `pairs`.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of dictionaries of "anchor", "positive" and "negative", each
    uint8 `[batch_size/hosts, height, width, channels]`.
  """
  rows, read = _draw_triplet(source, batch_size, seed, within_superclass), reader(source.images)

  def batches(start=0, shard=(0, 1)):
    def named(counter):
      return dict(zip(("anchor", "positive", "negative"), rows(counter), strict=True))

    return read(_each(named, start, shard, batch_size))

  return batches


def balanced(
  source: ImageDataset, *, classes: int, each: int, seed: int = 0, within_superclass: bool = False
) -> Batches:
  """Batches of `each` images of each of `classes` classes, drawn without replacement.

  Args:
    source: an `ImageDataset`.
    classes: classes per batch, at least 2.
    each: images per class, at least 2.
    seed: any 64-bit integer.
    within_superclass: whether the classes of a batch share a superclass, that of a uniformly drawn class.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of `Examples`: inputs uint8
    `[classes*each/hosts, height, width, channels]`, labels one-hot over the classes of the batch, float32
    `[classes*each/hosts, classes]`. Rows are sorted by class.

  Raises:
    ValueError: if the source has too few classes or images, or a number is too small.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((12, 8, 8, 1), np.uint8), np.arange(12) % 4)
    >>> batch = next(data.balanced(source, classes=3, each=2)())
    >>> batch.inputs.shape, batch.labels.sum(0).tolist()
    ((6, 8, 8, 1), [2.0, 2.0, 2.0])
  """
  check_source(source)
  least = np.bincount(source.labels).min()
  checks.count("each", each)
  if not 2 <= each <= least:
    raise ValueError(f"expected from 2 to {least} images per class, the size of the smallest class, got {each}")
  rows, read = draw_task(source, classes, each - 1, 1, seed, within_superclass), reader(source.images)
  number = classes * each

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, number, "classes * each")

    def batch(step):
      mine = slice(offset, offset + local)
      return Examples(tf.reshape(rows(step), [-1])[mine], tf.one_hot(tf.repeat(tf.range(classes), each), classes)[mine])

    return read(tf.data.Dataset.range(start, ENDLESS).map(plain(batch), num_parallel_calls=tf.data.AUTOTUNE))

  return batches


def _each(function, start, shard, batch_size):
  """A dataset of a host's rows of each batch: `function(number)` with rows numbered over all batches and hosts."""
  offset, local = rows_of_host(start, shard, batch_size, "batch_size")
  counters = tf.data.Dataset.range(start * local, ENDLESS)
  drawn = counters.map(
    plain(lambda c: function(c // local * batch_size + offset + c % local)), num_parallel_calls=tf.data.AUTOTUNE
  )
  return drawn.batch(local, drop_remainder=True)


def _draw_triplet(source, batch_size, seed, within_superclass):
  """`counter -> rows` of an anchor, another image of its class, and one of another class."""
  check_source(source)
  check_batches(batch_size, seed)
  checks.flag("within_superclass", within_superclass)
  counts = np.bincount(source.labels, minlength=len(source.classes))
  if counts.min() < 2:
    raise ValueError(f"expected at least 2 images of each class, got 1 of {source.classes[int(np.argmin(counts))]!r}")
  superclasses = (
    np.unique(source.superclasses, return_inverse=True)[1] if within_superclass else np.zeros(len(counts), int)
  )
  alone = np.flatnonzero(np.bincount(superclasses)[superclasses] < 2)
  if alone.size:
    of = f" of the group {source.superclasses[alone[0]]!r}" if within_superclass else ""
    raise ValueError(f"expected at least 2 classes{of}, got {source.classes[alone[0]]!r} alone")
  most, classes = int(counts.max()), len(counts)
  by_class = constant(np.argsort(source.labels, kind="stable"))
  first, count = constant(np.cumsum(counts) - counts), constant(counts)
  group = constant(superclasses)

  def rows(counter):
    """Draws uniformly without replacement by the largest of independent random numbers, as for `episodes`."""
    noise = random_integers(classes + 2 * most, seed, counter)
    way = tf.argmax(noise[:classes])
    others = (group == group[way]) & (tf.range(classes, dtype=tf.int64) != way)
    other = tf.argmax(tf.where(others, noise[:classes], tf.int64.min))
    own, its = noise[classes : classes + most], noise[classes + most :]

    def exists(k):
      return tf.range(most, dtype=tf.int64) < count[k]

    chosen = tf.math.top_k(tf.where(exists(way), own, tf.int64.min), 2).indices
    negative = tf.argmax(tf.where(exists(other), its, tf.int64.min))

    def image(k, index):
      return by_class[first[k] + tf.cast(index, tf.int64)]

    return image(way, chosen[0]), image(way, chosen[1]), image(other, negative)

  return rows
