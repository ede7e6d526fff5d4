"""The `tf.data` pipelines that all batches are made of: random integers, epochs, and images gathered or decoded."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.lazy_images import LazyImages
from metajax.data.sharding import ENDLESS
from metajax.types import Episode, Examples

MOST = 2**31 - 1  # rows of a batch
AHEAD = 2  # batches of images out of files that are decoded while one is used


def in_epochs(number: int, batch_size: int, seed: int, start: int) -> tf.data.Dataset:
  """A dataset of the `batch_size` numbers of each batch from `start` on: all of `number`, in a new order each epoch."""
  if number < 1:
    raise ValueError("expected something to make batches of, got nothing")
  epoch, skipped = divmod(start * batch_size, number)

  def order(e):
    shuffled = tf.argsort(random_integers(number, seed, e))
    return shuffled[tf.where(e == epoch, tf.constant(skipped, tf.int64), 0) :]

  return tf.data.Dataset.range(epoch, ENDLESS).map(plain(order)).rebatch(batch_size, drop_remainder=True)


def constant(x: np.ndarray) -> Any:
  """A tensor. Of its operators, which TensorFlow adds when it is imported, its types know nothing."""
  return tf.constant(x)


def random_integers(number: int, seed: int, index: tf.Tensor) -> Any:
  """`number` independent 64-bit integers, a function of two 64-bit integers."""
  key = tf.stack([tf.constant(seed, tf.int64), index])
  return tf.random.stateless_uniform([number], key, minval=None, maxval=None, dtype=tf.int64, alg="philox")


def reader(images: np.ndarray | LazyImages) -> Callable[[tf.data.Dataset], Iterator]:
  """A function from a dataset of `Examples`, `Episode`s or other trees of rows of `images` to an iterator of them with
  images."""
  if isinstance(images, LazyImages):
    return lambda batches: _decoded(images, batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator())
  stored = constant(images)

  def gather(rows):
    return tf.cast(tf.gather(stored, rows), tf.float32) / 255

  shown = plain(lambda batch: _map_inputs(gather, batch))

  def read(batches):
    whole = batches.map(shown, num_parallel_calls=tf.data.AUTOTUNE)
    return whole.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

  return read


def _decoded(images, batches):
  """Outside of TensorFlow, which would bury the message of an image that cannot be read."""
  waiting = collections.deque()
  for batch in batches:
    waiting.append(_map_inputs(images.start, batch))
    if len(waiting) > AHEAD:
      yield _map_inputs(lambda wait: np.float32(wait()) / np.float32(255), waiting.popleft())


def _map_inputs(function, batch):
  if isinstance(batch, Episode):
    return Episode(*(_map_inputs(function, examples) for examples in batch))
  if isinstance(batch, Examples):
    return Examples(tf.nest.map_structure(function, batch.inputs), batch.labels)
  return tf.nest.map_structure(function, batch)


def check_seed(seed: int):
  """Refuses what is no 64-bit integer.

  Raises:
    ValueError: quoting it.
  """
  checks.count("seed", seed, -(2**63), 2**63 - 1)


def check_batches(batch_size: int, seed: int):
  """Refuses what no batches can have.

  Raises:
    ValueError: quoting it.
  """
  checks.count("batch_size", batch_size, most=MOST)
  check_seed(seed)


def plain(mapped: Callable) -> Callable:
  """What a data set is mapped by, of TensorFlow's operations alone: AutoGraph need not rewrite it."""
  return tf.autograph.experimental.do_not_convert(mapped)
