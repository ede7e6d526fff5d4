"""Batches of labeled images: all of them, epoch after epoch or once in their order."""

import numpy as np

from metajax.data._tensorflow import tf
from metajax.data.files.lazy_images import take
from metajax.data.pipeline import check_batches, in_epochs, plain, reader
from metajax.data.sharding import in_order_of, rows_of_host
from metajax.data.source import ImageDataset, check_source
from metajax.types import Batches, Examples


def eval_batches(source: ImageDataset, *, batch_size: int) -> Batches:
  """Every image of a source once, in its order: an evaluation's batches, which end.

  Args:
    source: an `ImageDataset`.
    batch_size: images a batch; the last batch may have fewer.

  Returns:
    `batches(start=0, shard=(0, 1))`, an iterator from batch `start` on of the `Examples` of host `shard[0]` of
    `shard[1]`, whose rows of a batch follow each other: inputs float32 `[rows, height, width, channels]` in [0, 1],
    labels integers `[rows]`. Of a short batch a host may have none.

  Raises:
    ValueError: `batch_size` is less than 1.
  """
  check_source(source)

  def batch(rows):
    return Examples(np.float32(np.asarray(take(source.images, rows))) / np.float32(255), source.labels[rows])

  return in_order_of(len(source.labels), batch_size, batch)


def train_batches(source: ImageDataset, *, batch_size: int, seed: int = 0) -> Batches:
  """Batches of `Examples`: all images of the source, epoch after epoch, each epoch in a uniformly random order.

  The order of epoch `e` depends on (seed, e) alone; a batch may span epochs, so that none is ever short.

  Args:
    source: an `ImageDataset`.
    batch_size: images a batch, over all hosts.
    seed: any 64-bit integer.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`: inputs float32 `[batch_size/hosts, height, width, channels]` in
    [0, 1], labels one-hot over all classes, float32 `[batch_size/hosts, classes]`.

  Raises:
    ValueError: `batch_size` is less than 1.
  """
  check_source(source)
  check_batches(batch_size, seed)
  read, labels, number = reader(source.images), tf.constant(source.labels), len(source.labels)

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")

    def take(rows):
      rows = rows[offset : offset + local]
      return Examples(rows, tf.one_hot(tf.gather(labels, rows), len(source.classes)))

    return read(in_epochs(number, batch_size, seed, start).map(plain(take)))

  return batches
