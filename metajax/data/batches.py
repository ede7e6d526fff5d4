"""Batches of labeled images: shuffled epochs for training, one ordered pass for evaluation."""

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.crops import RandomCrop
from metajax.data.files.lazy_images import take
from metajax.data.mixture import Mixture, mixed_batches
from metajax.data.pipeline import batches_of, check_batches, drawn, plain, reader
from metajax.data.sharding import in_order_of
from metajax.data.source import ImageDataset, check_source
from metajax.types import Batches, Examples


def eval_batches(source: ImageDataset, *, batch_size: int) -> Batches:
  """Batches for evaluation: every image of a source once, in order; the iterator is finite.

  Args:
    source: an `ImageDataset`.
    batch_size: images per batch, over all hosts; the last batch may have fewer.

  Returns:
    `batches(start=0, shard=(0, 1))`, an iterator from batch `start` on over the `Examples` of host `shard[0]` of
    `shard[1]`, a contiguous slice of each batch: inputs uint8 `[rows, height, width, channels]`, labels
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
    return Examples(np.asarray(take(source.images, rows)), source.labels[rows])

  return in_order_of(len(source.labels), batch_size, batch)


def train_batches(
  source: ImageDataset | Mixture, *, batch_size: int, seed: int = 0, crop: RandomCrop | None = None
) -> Batches:
  """Batches for training: all images of the source, epoch after epoch, uniformly shuffled in each epoch.

  The order of epoch `e` depends only on (seed, e). A batch may span epochs, so no batch is short.

  Args:
    source: an `ImageDataset`, or a `mixture` of such.
    batch_size: images per batch, over all hosts.
    seed: any 64-bit integer.
    crop: random crops to cut from the original images, `load(..., originals=True)`, as a pure function of the seed, the
      step and the row of the batch; by default whole images.

  Returns:
    `batches(start=0, shard=(0, 1))`, an endless iterator of `Examples`, sharded as for `episodes`: inputs uint8
    `[batch_size/hosts, height, width, channels]`, or a `Pair` of two crops each; labels one-hot over all classes,
    float32 `[batch_size/hosts, classes]`.

  Raises:
    ValueError: if `batch_size` is less than 1, or with `crop` the images have no originals.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((10, 8, 8, 1), np.uint8), np.arange(10) % 2)
    >>> batch = next(data.train_batches(source, batch_size=4)())
    >>> batch.inputs.shape, batch.labels.shape
    ((4, 8, 8, 1), (4, 2))
  """
  check_batches(batch_size, seed)
  sources = _labeled(source)
  place_of = {name: i for i, name in enumerate(dict.fromkeys(name for one in sources for name in one.classes))}

  def part(one):
    read, labels = reader(one.images, crop), tf.constant(np.array([place_of[name] for name in one.classes])[one.labels])

    def take(rows, mine, place, step):
      rows, place = tf.boolean_mask(rows, mine), tf.boolean_mask(place, mine)
      one_hot = tf.one_hot(tf.gather(labels, rows), len(place_of))
      return Examples(drawn(rows, place, batch_size, crop, seed, step), one_hot)

    return lambda rows: read(rows.map(plain(take)))

  parts, sizes = [part(one) for one in sources], [len(one.labels) for one in sources]
  if isinstance(source, Mixture):
    return mixed_batches(sizes, source.weights, parts, batch_size, seed)
  return batches_of(parts[0], sizes[0], batch_size, seed)


def _labeled(source) -> list[ImageDataset]:
  """The source, or those of a mixture; raises unless images have labels."""
  if not isinstance(source, Mixture):
    check_source(source)
    return [source]
  labeled = [one for one in source.sources if isinstance(one, ImageDataset)]
  if other := [one for one in source.sources if not isinstance(one, ImageDataset)]:
    raise ValueError(f"expected a mixture of labeled images, each an ImageDataset, got {checks.describe(other[0])}")
  return labeled
