"""The `tf.data` pipelines behind all batches: random integers, epochs, and images gathered or decoded."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.crops import DRAWS, RandomCrop, check_crop
from metajax.data.files.lazy_images import LazyImages
from metajax.data.sharding import ENDLESS, mask_of_host
from metajax.types import Batches, Episode, Examples, Pair

MOST = 2**31 - 1  # largest number of rows in a batch
LARGEST_TABLE = 2**20  # rows whose order is a table; sorting ten times as many takes 8 s at the start of each epoch
ROUNDS = 8  # of the cipher that orders more rows
OF_CROPS = 0x63726F70  # tells the draws of crops from those of rows
AHEAD = 2  # number of batches that are decoded ahead


def in_epochs(number: int, batch_size: int, seed: int, start: int) -> tf.data.Dataset:
  """A dataset of batches of row numbers from batch `start` on: all of `range(number)`, reshuffled in each epoch.

  Up to `LARGEST_TABLE` rows the order of an epoch is a table. Above, a Feistel cipher permutes the rows of a batch
  alone, so that the first batch of any epoch takes the same few milliseconds, and no memory.
  """
  if number < 1:
    raise ValueError("expected at least one row to make batches of, got none")
  if number > LARGEST_TABLE:
    return _by_cipher(number, batch_size, seed, start)
  epoch, skipped = divmod(start * batch_size, number)

  def order(e):
    shuffled = tf.argsort(random_integers(number, seed, e))
    return shuffled[tf.where(e == epoch, tf.constant(skipped, tf.int64), 0) :]

  return tf.data.Dataset.range(epoch, ENDLESS).map(plain(order)).rebatch(batch_size, drop_remainder=True)


def _by_cipher(number: int, batch_size: int, seed: int, start: int) -> tf.data.Dataset:
  """`in_epochs` without a table: row `place` of an epoch is a cipher of it, with a key of (seed, epoch)."""
  epochs = 2 + batch_size // number  # that a batch may span

  def rows(step):
    place = step * batch_size + tf.range(batch_size, dtype=tf.int64)
    epoch, place = place // number, place % number
    keys = tf.stack([random_integers(3, seed, epoch[0] + i) for i in range(epochs)])
    most, keys = tf.constant(number - 1, tf.int64), tf.gather(keys, epoch - epoch[0])
    return tf.raw_ops.RandomIndexShuffle(index=place, seed=keys, max_index=most, rounds=ROUNDS)

  return tf.data.Dataset.range(start, ENDLESS // batch_size).map(plain(rows))


def batches_of(part: Callable[[tf.data.Dataset], Iterator], number: int, batch_size: int, seed: int) -> Batches:
  """Batches of all of `range(number)`, reshuffled in each epoch.

  Args:
    part: a function from a dataset of (rows of a batch, whether each is this host's, its place in the batch, step) to
      an iterator of batches of this host's rows alone.
    number, batch_size, seed: as for `in_epochs`.
  """
  places = np.arange(batch_size)

  def batches(start=0, shard=(0, 1)):
    mine = mask_of_host(start, shard, batch_size)
    rows = in_epochs(number, batch_size, seed, start).enumerate(start)
    return part(rows.map(plain(lambda step, some: (some, mine, places, step))))

  return batches


def constant(x: np.ndarray) -> Any:
  """A tensor, typed as Any: TensorFlow adds its operators at import, so type checkers do not know them."""
  return tf.constant(x)


def random_integers(number: int, seed: int, index: tf.Tensor) -> Any:
  """`number` independent 64-bit integers, a pure function of (seed, index)."""
  key = tf.stack([tf.constant(seed, tf.int64), index])
  return tf.random.stateless_uniform([number], key, minval=None, maxval=None, dtype=tf.int64, alg="philox")


def reader(images: np.ndarray | LazyImages, crop: RandomCrop | None = None) -> Callable[[tf.data.Dataset], Iterator]:
  """A function that replaces row numbers by images, as they are stored: from a dataset of `Examples`, `Episode`s or
  other pytrees of rows to an iterator of the same pytrees of images. With a crop it is `crop_reader`."""
  if crop is not None:
    return crop_reader(images, crop)
  if isinstance(images, LazyImages):
    return lambda batches: _decoded(images, batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator())
  stored = constant(images)

  def gather(rows):
    return tf.gather(stored, rows)

  shown = plain(lambda batch: _map_inputs(gather, batch))

  def read(batches):
    whole = batches.map(shown, num_parallel_calls=tf.data.AUTOTUNE)
    return whole.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

  return read


def crop_reader(
  images: np.ndarray | LazyImages,
  crop: RandomCrop,
  label: Callable[[Any, np.ndarray], Any] = lambda labels, files: labels,
) -> Callable[[tf.data.Dataset], Iterator]:
  """A function that replaces pairs of row numbers and draws by crops of the original images.

  From a dataset of `Examples`, whose inputs are `(rows [n], draws [n, views, DRAWS])`, to an iterator of `Examples` of
  images uint8 `[n, size, size, channels]`, or of a `Pair` of such. `label(labels, files)` gives the labels, where
  `files` are the numbers of the files that the crops are of.

  Raises:
    ValueError: if the images have no originals to cut crops from.
  """
  check_crop(crop)
  if not isinstance(images, LazyImages) or not images.have_originals:
    raise ValueError(
      f"expected images with originals, as load(..., originals=True) gives, got {checks.describe(images)}"
    )

  def start(batch):
    wait = images.start_crops(*batch.inputs, crop)

    def done():
      found, files = wait()
      views = [_read_only(np.ascontiguousarray(found[:, view])) for view in range(crop.views)]
      return Examples(Pair(*views) if crop.views == 2 else views[0], label(batch.labels, files))

    return done

  return lambda batches: _ahead(start, batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator())


def drawn(rows: Any, place: Any, batch_size: int, crop: RandomCrop | None, seed: int, step: tf.Tensor) -> Any:
  """What `reader(images, crop)` takes for rows at places of a batch: them alone, or with the draws of their crops."""
  return rows if crop is None else (rows, tf.gather(crop_draws(batch_size, crop, seed, step), place))


def crop_draws(batch_size: int, crop: RandomCrop, seed: int, step: tf.Tensor) -> Any:
  """The uniform draws of a batch's crops, float32 `[batch_size, views, DRAWS]`, a pure function of (seed, step)."""
  key = tf.stack([tf.constant(seed ^ OF_CROPS, tf.int64), step])
  return tf.random.stateless_uniform([batch_size, crop.views, DRAWS], key, alg="philox")


def _decoded(images, batches):
  """Decodes outside of TensorFlow, which would bury the error message of an unreadable image."""

  def start(batch):
    started = _map_inputs(images.start, batch)
    return lambda: _map_inputs(lambda wait: _read_only(wait()), started)

  return _ahead(start, batches)


def _read_only(images):
  """Images that nobody changes, like those of tf.data, so that `fit` need not copy them."""
  images.flags.writeable = False
  return images


def _ahead(start, batches):
  """Starts batches, `AHEAD` of them before they are waited for."""
  waiting = collections.deque()
  for batch in batches:
    waiting.append(start(batch))
    if len(waiting) > AHEAD:
      yield waiting.popleft()()


def _map_inputs(function, batch):
  if isinstance(batch, Episode):
    return Episode(*(_map_inputs(function, examples) for examples in batch))
  if isinstance(batch, Examples):
    return Examples(tf.nest.map_structure(function, batch.inputs), batch.labels)
  return tf.nest.map_structure(function, batch)


def check_seed(seed: int):
  """Raises ValueError unless the seed is a 64-bit integer."""
  checks.count("seed", seed, -(2**63), 2**63 - 1)


def check_batches(batch_size: int, seed: int):
  """Raises ValueError unless batch size and seed are in range."""
  checks.count("batch_size", batch_size, most=MOST)
  check_seed(seed)


def plain(mapped: Callable) -> Callable:
  """Keeps AutoGraph from rewriting a function that uses only TensorFlow operations."""
  return tf.autograph.experimental.do_not_convert(mapped)
