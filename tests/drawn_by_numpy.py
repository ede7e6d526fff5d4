"""Batches without TensorFlow, of which each pipeline takes half a second to build: for tests of other things."""

import itertools

import numpy as np

from metajax.types import Episode, Examples, Pair


def episodes(source, *, ways, shots, queries, meta_batch_size, seed=0, within_superclass=False):
  """As `metajax.data.episodes`, of sources in memory: the same tasks from whatever step."""
  labels = np.asarray(source.labels)

  def task(number):
    rng = np.random.default_rng((seed, number))
    drawn = rng.choice(len(source.classes), ways, replace=False)
    rows = np.stack([rng.choice(np.flatnonzero(labels == k), shots + queries, replace=False) for k in drawn])
    return Episode(part(rows[:, :shots]), part(rows[:, shots:]))

  def part(rows):
    images = source.images[rows.reshape(-1)]
    return Examples(images, np.repeat(np.eye(ways, dtype=np.float32), rows.shape[1], 0))

  def batches(start=0, shard=(0, 1)):
    index, hosts = shard
    for batch in itertools.count(start):
      own = range(
        batch * meta_batch_size + index * meta_batch_size // hosts,
        batch * meta_batch_size + (index + 1) * meta_batch_size // hosts,
      )
      drawn = [task(number) for number in own]
      parts = [Examples(*map(np.stack, zip(*(t[i] for t in drawn), strict=True))) for i in range(2)]
      yield Episode(*parts)

  return batches


def train_batches(source, *, batch_size, seed=0, crop=None):
  """As `metajax.data.train_batches`, of sources in memory: the same batches from whatever step."""

  def batches(start=0, shard=(0, 1)):
    for step in itertools.count(start):
      rows = np.random.default_rng((seed, step)).permutation(len(source.labels))[:batch_size]
      labels = np.eye(len(source.classes), dtype=np.float32)[source.labels[rows]]
      yield Examples(source.images[rows], labels)

  return batches


def image_texts(source, tokenizer, *, batch_size, max_length, seed=0, crop=None):
  """As `metajax.data.image_texts`, of sources in memory and texts of one max_length: the same pairs from whatever
  step."""
  tokens = [tokenizer(list(texts), max_length) for texts in source.captions]

  def batches(start=0, shard=(0, 1)):
    for step in itertools.count(start):
      random = np.random.default_rng((seed, step))
      classes = random.permutation(len(tokens))[:batch_size]
      rows = [random.choice(np.flatnonzero(source.labels == k)) for k in classes]
      yield Pair(source.images[rows], np.stack([random.choice(tokens[k]) for k in classes]))

  return batches
