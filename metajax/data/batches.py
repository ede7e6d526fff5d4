"""Batches of labeled images: shuffled epochs for training, one ordered pass for evaluation."""

import numpy as np

from metajax.data._tensorflow import tf
from metajax.data.files.lazy_images import take
from metajax.data.mixture import Mixture, mixed_batches
from metajax.data.pipeline import check_batches, in_epochs, plain, reader
from metajax.data.sharding import in_order_of, rows_of_host
from metajax.data.source import ImageDataset, check_source
from metajax.types import Batches, Examples


def eval_batches(source: ImageDataset, *, batch_size: int) -> Batches:
  """Batches for evaluation: every image of a source once, in order; the iterator is finite.

  Args:
    source: an `ImageDataset`.
    batch_size: images per batch, over all hosts; the last batch may have fewer.

  Returns:
    `batches(start=0, shard=(0, 1))`, an iterator from batch `start` on over the `Examples` of host `shard[0]` of
    `shard[1]`, a contiguous slice of each batch: inputs float32 `[rows, height, width, channels]` in [0, 1], labels
    integers `[rows]`. A host may have no rows of a short batch.

  Raises:
    ValueError: if `batch_size` is less than 1.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((10, 8, 8, 1), np.uint8), np.arange(10) % 2)
    >>> [len(batch.labels) for batch in data.eval_batches(source, batch_size=4)()]
    [4, 4, 2]
  """
  check_source(source)

  def batch(rows):
    return Examples(np.float32(np.asarray(take(source.images, rows))) / np.float32(255), source.labels[rows])

  return in_order_of(len(source.labels), batch_size, batch)


def train_batches(source: ImageDataset | Mixture, *, batch_size: int, seed: int = 0) -> Batches:
  """Batches for training: all images of the source, epoch after epoch, uniformly shuffled in each epoch.

  The order of epoch `e` depends only on (seed, e). A batch may span epochs, so no batch is short.

  Args:
    source: an `ImageDataset`, or a `mixture` of several.
    batch_size: images per batch, over all hosts.
    seed: any 64-bit integer.

  Returns:
    `batches(start=0, shard=(0, 1))`, an endless iterator of `Examples`, sharded as for `episodes`: inputs float32
    `[batch_size/hosts, height, width, channels]` in [0, 1], labels one-hot over all classes, float32
    `[batch_size/hosts, classes]`.

  Raises:
    ValueError: if `batch_size` is less than 1.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((10, 8, 8, 1), np.uint8), np.arange(10) % 2)
    >>> batch = next(data.train_batches(source, batch_size=4)())
    >>> batch.inputs.shape, batch.labels.shape
    ((4, 8, 8, 1), (4, 2))
  """
  check_batches(batch_size, seed)
  if isinstance(source, Mixture):
    return _mixed(source, batch_size, seed)
  check_source(source)
  read, labels, number = reader(source.images), tf.constant(source.labels), len(source.labels)

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")

    def take(rows):
      rows = rows[offset : offset + local]
      return Examples(rows, tf.one_hot(tf.gather(labels, rows), len(source.classes)))

    return read(in_epochs(number, batch_size, seed, start).map(plain(take)))

  return batches


def _mixed(source, batch_size, seed):
  """`train_batches` of a `Mixture`, whose classes are those of all its sources."""
  classes = list(dict.fromkeys(name for one in source.sources for name in one.classes))
  place = {name: i for i, name in enumerate(classes)}

  def part(one):
    read, labels = reader(one.images), tf.constant(np.array([place[name] for name in one.classes])[one.labels])

    def take(rows, mine):
      rows = tf.boolean_mask(rows, mine)
      return Examples(rows, tf.one_hot(tf.gather(labels, rows), len(classes)))

    return lambda rows: read(rows.map(plain(take)))

  sizes, parts = [len(one.labels) for one in source.sources], [part(one) for one in source.sources]
  return mixed_batches(sizes, source.weights, parts, batch_size, seed)
