"""The draws of `variable_episodes`: ways, shots and images of a task (arXiv:1903.03096, 3.2)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.pipeline import MOST, constant, random_integers
from metajax.data.source import ImageDataset, check_source

BITS = 2**53  # of a uniform float64
LOG_NOISE = (np.log(0.5), np.log(2))  # bounds of alpha


class Limits(NamedTuple):
  """The limits of tasks, as of `variable_episodes`."""

  min_ways: int
  max_ways: int
  max_queries: int
  max_support: int
  max_support_per_class: int


def draw_variable_task(sources: Sequence[ImageDataset], limits: Limits, seed: int) -> Callable:
  """`task -> ((rows, way of each), (rows, way of each))`: the support and query images of a task.

  Rows number the images of all sources, one after the other.
  """
  labels, number = _joined_labels(sources)
  counts = np.bincount(labels)
  classes, most = len(counts), int(counts.max())
  kept = min(most, limits.max_support + limits.max_queries)  # of the images of a class, in a random order
  of_source = constant(np.repeat(np.arange(len(sources)), number))
  by_class = constant(np.argsort(labels, kind="stable"))
  first, count, widest = constant(np.cumsum(counts) - counts), constant(counts), min(limits.max_ways, max(number))
  largest = constant(np.minimum(limits.max_ways, number))  # number of ways of each source

  def draw(task):
    of_task, of_class, of_image = tf.split(
      random_integers(3 + classes + widest * (most + 1), seed, task), [3, classes, widest * (most + 1)]
    )
    chosen = of_task[0] % len(sources)
    ways = limits.min_ways + of_task[1] % (largest[chosen] - limits.min_ways + 1)
    way = tf.math.top_k(tf.where(of_source == chosen, of_class, tf.int64.min), widest).indices
    there = tf.range(widest, dtype=tf.int64) < ways
    images, noise = tf.gather(count, way) * tf.cast(there, tf.int64), of_image[: widest * most]
    queries, shots = _sizes(images, there, 1 - _uniform(of_task[2]), _uniform(of_image[widest * most :]), limits)
    exists = tf.range(most, dtype=tf.int64) < images[:, None]
    image = tf.math.top_k(tf.where(exists, tf.reshape(noise, (widest, most)), tf.int64.min), kept).indices
    places = tf.gather(first, way)[:, None] + tf.cast(image, tf.int64)
    order = tf.range(kept, dtype=tf.int64)
    asked = there[:, None] & (order < queries)
    shown = (order >= queries) & (order < queries + shots[:, None])
    return tuple((tf.gather(by_class, places[one]), tf.where(one)[:, 0]) for one in (shown, asked))

  return draw


def _sizes(images, there, beta, uniform, limits):
  """Query images per class, and the support images of each class; none for a class that is not there, of 0 images."""
  smallest = tf.reduce_min(tf.where(there, images, tf.constant(MOST, tf.int64)))
  queries = tf.minimum(smallest // 2, limits.max_queries)
  rest = tf.maximum(images - queries, 0)
  shares = beta * tf.cast(tf.minimum(rest, limits.max_support_per_class), tf.float64)
  support = tf.minimum(tf.reduce_sum(tf.cast(tf.math.ceil(shares), tf.int64)), limits.max_support)
  alpha = LOG_NOISE[0] + uniform * (LOG_NOISE[1] - LOG_NOISE[0])
  weights = tf.exp(alpha) * tf.cast(images, tf.float64)
  left = tf.cast(support - tf.reduce_sum(tf.cast(there, tf.int64)), tf.float64)
  shots = tf.cast(tf.floor(weights / tf.reduce_sum(weights) * left), tf.int64) + 1
  return queries, tf.minimum(shots, rest)


def _uniform(noise) -> Any:
  """Numbers uniform in [0, 1), of 53 bits."""
  return tf.cast(noise % BITS, tf.float64) / BITS


def _joined_labels(sources):
  """The classes of all images, numbered over all sources, and the number of classes of each source."""
  number = np.array([len(one.classes) for one in sources])
  before = np.cumsum(number) - number
  return np.concatenate([one.labels + more for one, more in zip(sources, before, strict=True)]), number


def most_rows(sources: Sequence[ImageDataset], limits: Limits) -> tuple[int, int]:
  """The most support and query images of a task."""
  support, query = [], []
  for one in sources:
    counts = np.sort(np.bincount(one.labels))[::-1]
    ways = np.arange(1, 1 + min(limits.max_ways, len(counts)))
    queries = np.minimum(limits.max_queries, counts[: len(ways)] // 2)
    of_class = np.minimum(limits.max_support_per_class, counts - min(limits.max_queries, counts.min() // 2))
    support.append(min(limits.max_support, of_class[: len(ways)].sum()))
    query.append((ways * queries)[limits.min_ways - 1 :].max())
  return int(max(support)), int(max(query))


def check_limits(sources: Sequence[ImageDataset], limits: Limits):
  """Raises ValueError unless every source has enough classes and images for the limits, and all have images alike."""
  for name, value in limits._asdict().items():
    checks.count(name, value, 2 if name.endswith("ways") else 1, MOST)
  if limits.max_ways < limits.min_ways:
    raise ValueError(f"expected max_ways of at least min_ways, {limits.min_ways}, got {limits.max_ways}")
  if limits.max_support < limits.max_ways:
    raise ValueError(f"expected max_support of at least max_ways, {limits.max_ways}, got {limits.max_support}")
  if not sources:
    raise ValueError("expected one or more sources, got none")
  for one in sources:
    _check_one(one, limits.min_ways)
  shapes = [one.images.shape[1:] for one in sources]
  if other := next((shape for shape in shapes if shape != shapes[0]), None):
    raise ValueError(f"expected sources of images of one shape, got {list(shapes[0])} and {list(other)}")


def _check_one(source, min_ways):
  check_source(source)
  if source.images.dtype != np.uint8:
    raise ValueError(f"expected a source of uint8 images, 0 to 255, got {source.images.dtype}")
  counts = np.bincount(source.labels, minlength=len(source.classes))
  if len(counts) < min_ways:
    raise ValueError(f"expected at least min_ways classes in a source, {min_ways}, got {len(counts)}")
  if counts.min() < 2:
    smallest = source.classes[int(np.argmin(counts))]
    raise ValueError(
      f"expected at least 2 images of every class, to show and to ask, got {counts.min()} of {smallest!r}"
    )
