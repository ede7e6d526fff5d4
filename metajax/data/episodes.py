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
  """Batches of few-shot tasks: `ways` classes drawn without replacement, of each `shots + queries` images likewise.

  All choices are uniform. Task `t` of batch `i` is drawn with the key (seed, i * meta_batch_size + t) alone, so it is
  the same from whatever step, and on however many hosts, the data are read.

  Args:
    source: an `ImageDataset`.
    ways: classes a task.
    shots, queries: images of each class in the support and in the query set; no image is in both.
    meta_batch_size: tasks a batch, over all hosts.
    seed: any 64-bit integer.
    within_superclass: the classes of a task are of one alphabet, that of a uniformly drawn class: harder tasks.

  Returns:
    `batches(start=0, shard=(0, 1))`, an endless iterator from batch `start` on of the `Episode`s of host `shard[0]` of
    `shard[1]`: support inputs float32 `[meta_batch_size/hosts, ways*shots, height, width, channels]` in [0, 1],
    support labels one-hot float32 `[meta_batch_size/hosts, ways*shots, ways]`, and likewise the query. Rows are in the
    order of the ways: first all of way 0. It raises ValueError for a negative start, a host that there is not, or
    tasks that the hosts do not divide.

  Raises:
    ValueError: the source (or a group, with `within_superclass`) has too few classes or images, or a number is too
      small.
  """
  checks.count("meta_batch_size", meta_batch_size, most=MOST)
  rows, read = draw_task(source, ways, shots, queries, seed, within_superclass), reader(source.images)

  def labeled(rows):
    each = rows.shape[-1]
    labels = tf.one_hot(tf.repeat(tf.range(ways), each), ways)
    return Examples(tf.reshape(rows, (-1, ways * each)), tf.tile(labels[None], (rows.shape[0], 1, 1)))

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, meta_batch_size, "meta_batch_size")
    # The tasks of this host, counted by c, are `local` in a row out of every `meta_batch_size`.
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
  """Which images of the source a task of `episodes` with the same arguments takes.

  Returns:
    `rows(task)`: int64 `[ways, shots + queries]`, the rows of the source that task `task`, counted from 0 over all
    batches and hosts, takes: row `w` those of way `w`, first the support's, then the query's. It raises ValueError for
    a negative task.

  Raises:
    ValueError: as `episodes`.
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
  """`task -> rows`: the images of a task, int64 `[ways, shots + queries]`."""
  check_source(source)
  check_seed(seed)
  checks.flag("within_superclass", within_superclass)
  counts = np.bincount(source.labels, minlength=len(source.classes))
  _check_task(source, counts, ways, shots, queries)
  most, classes = int(counts.max()), len(counts)
  group = _superclasses(source, ways) if within_superclass else None
  # The images of class c are rows by_class[first[c]], ... of the images.
  by_class = constant(np.argsort(source.labels, kind="stable"))
  first, count = constant(np.cumsum(counts) - counts), constant(counts)

  def rows(task):
    """The places of the greatest of independent random numbers are a uniform draw without replacement (`index_shuffle`
    is not uniform over so few)."""
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
  """The number of each class's group, of which none is smaller than a task."""
  names, numbers, sizes = np.unique(source.superclasses, return_inverse=True, return_counts=True)
  if sizes.min() < ways:
    given = f"{sizes.min()} of {str(names[np.argmin(sizes)])!r}"
    raise ValueError(f"expected at least {ways} classes in every group, with within_superclass, got {given}")
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
