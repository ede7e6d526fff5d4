"""Few-shot episodes as pure functions of (seed, step)."""

from collections.abc import Callable

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.pipeline import MOST, check_seed, constant, plain, random_integers, reader
from metajax.data.sharding import ENDLESS, rows_of_host
from metajax.data.source import ImageDataset, check_source
from metajax.types import Batches, Episode, Examples


def episodes(
  source: ImageDataset,
  *,
  ways: int,
  shots: int,
  queries: int,
  meta_batch_size: int,
  seed: int = 0,
  within_superclass: bool = False,
) -> Batches:
  """Batches of few-shot tasks: `ways` classes, and `shots + queries` images of each, drawn without replacement.

  All draws are uniform. Task `t` of batch `i` depends only on (seed, i * meta_batch_size + t), for any start and shard.

  Args:
    source: an `ImageDataset`.
    ways: classes per task.
    shots, queries: images per class in the support set and in the query set; no image is in both.
    meta_batch_size: tasks per batch, over all hosts.
    seed: any 64-bit integer.
    within_superclass: whether the classes of a task share a superclass, that of a uniformly drawn class: harder tasks.

  Returns:
    `batches(start=0, shard=(0, 1))`, an endless iterator from batch `start` on over the `Episode`s of host `shard[0]`
    of `shard[1]`: support inputs uint8 `[meta_batch_size/hosts, ways*shots, height, width, channels]`, support labels
    one-hot float32 `[meta_batch_size/hosts, ways*shots, ways]`, and likewise the query. Rows are sorted by way. It
    raises ValueError for a negative start, an invalid host, or tasks that the hosts do not divide.

  Raises:
    ValueError: if the source (or a superclass, if used) has too few classes or images, or a number is too small.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((12, 8, 8, 1), np.uint8), np.arange(12) % 3)
    >>> batch = next(data.episodes(source, ways=2, shots=1, queries=3, meta_batch_size=4)())
    >>> batch.support.inputs.shape, batch.query.labels.shape
    ((4, 2, 8, 8, 1), (4, 6, 2))
  """
  checks.count("meta_batch_size", meta_batch_size, most=MOST)
  rows, read = draw_task(source, ways, shots, queries, seed, within_superclass), reader(source.images)

  def labeled(rows):
    each = rows.shape[-1]
    labels = tf.one_hot(tf.repeat(tf.range(ways), each), ways)
    return Examples(tf.reshape(rows, (-1, ways * each)), tf.tile(labels[None], (rows.shape[0], 1, 1)))

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, meta_batch_size, "meta_batch_size")
    # c counts the tasks of this host: `local` consecutive ones out of every `meta_batch_size`.
    drawn = tf.data.Dataset.range(start * local, ENDLESS).map(
      plain(lambda c: rows(c // local * meta_batch_size + offset + c % local)), num_parallel_calls=tf.data.AUTOTUNE
    )

    def split(rows):
      return Episode(labeled(rows[..., :shots]), labeled(rows[..., shots:]))

    return read(drawn.batch(local, drop_remainder=True).map(plain(split)))

  return batches


def episode_rows(
  source: ImageDataset, *, ways: int, shots: int, queries: int, seed: int = 0, within_superclass: bool = False
) -> Callable[[int], np.ndarray]:
  """The images of the source that each task of `episodes`, with the same arguments, consists of.

  Returns:
    `rows(task)`: rows of the source in a task, int64 `[ways, shots + queries]`. Tasks are counted from 0 over all
    batches and hosts. Row `w` holds the images of way `w`, first those of the support set, then those of the query set.
    It raises ValueError for a negative task.

  Raises:
    ValueError: as for `episodes`.
  """
  drawn = draw_task(source, ways, shots, queries, seed, within_superclass)
  draw = tf.function(drawn, input_signature=[tf.TensorSpec([], tf.int64)], autograph=False)

  def rows(task):
    checks.count("task", task, 0, ENDLESS)
    return draw(tf.constant(task, tf.int64)).numpy()

  return rows


def draw_task(
  source: ImageDataset, ways: int, shots: int, queries: int, seed: int, within_superclass: bool = False
) -> Callable:
  """`task -> rows`: the rows of the images of a task, int64 `[ways, shots + queries]`."""
  check_source(source)
  check_seed(seed)
  checks.flag("within_superclass", within_superclass)
  counts = np.bincount(source.labels, minlength=len(source.classes))
  _check_task(source, counts, ways, shots, queries)
  most, classes = int(counts.max()), len(counts)
  group = _superclasses(source, ways) if within_superclass else None
  # The images of class c are the rows by_class[first[c]], by_class[first[c] + 1], ...
  by_class = constant(np.argsort(source.labels, kind="stable"))
  first, count = constant(np.cumsum(counts) - counts), constant(counts)

  def rows(task):
    """Draws uniformly without replacement: the indices of the largest of independent random numbers (`index_shuffle` is
    not uniform over so few)."""
    noise = random_integers(classes + ways * most, seed, task)
    of_class = noise[:classes]
    if group is not None:
      of_class = tf.where(group == group[tf.argmax(of_class)], of_class, tf.int64.min)
    way = tf.math.top_k(of_class, ways).indices
    of_image = tf.reshape(noise[classes:], (ways, most))
    exists = tf.range(most, dtype=tf.int64) < tf.gather(count, way)[:, None]
    image = tf.math.top_k(tf.where(exists, of_image, tf.int64.min), shots + queries).indices
    return tf.gather(by_class, tf.gather(first, way)[:, None] + tf.cast(image, tf.int64))

  return rows


def _superclasses(source, ways):
  """The number of each class's superclass; raises if one has fewer classes than a task."""
  names, numbers, sizes = np.unique(source.superclasses, return_inverse=True, return_counts=True)
  if sizes.min() < ways:
    given = f"{sizes.min()} of {str(names[np.argmin(sizes)])!r}"
    raise ValueError(f"expected at least {ways} classes in every superclass, with within_superclass, got {given}")
  return tf.constant(numbers)


def _check_task(source, counts, ways, shots, queries):
  if source.images.dtype != np.uint8:
    raise ValueError(f"expected a source of uint8 images, 0 to 255, got {source.images.dtype}")
  for name, value, least in (("ways", ways, 2), ("shots", shots, 1), ("queries", queries, 1)):
    checks.count(name, value, least)
  if ways > len(counts):
    raise ValueError(f"expected from 2 ways to the {len(counts)} classes of the source, got {ways}")
  if shots + queries > counts.min():
    smallest = source.classes[int(np.argmin(counts))]
    raise ValueError(
      f"expected shots + queries of at most {counts.min()}, the images of the smallest class, {smallest!r}; got "
      f"{shots} + {queries} = {shots + queries}"
    )
