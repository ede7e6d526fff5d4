"""Batches of image-text pairs, as pure functions of (seed, step)."""

import numbers
from collections.abc import Sequence

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.crops import RandomCrop, check_crop
from metajax.data.mixture import Mixture, mixed_batches
from metajax.data.pipeline import batches_of, drawn, plain, random_integers, reader
from metajax.data.shards.captioned import ImageTexts
from metajax.data.source import ImageDataset, check_source
from metajax.data.text.shard_pairs import shard_pairs, tokenized
from metajax.data.text.tokenizer import LENGTH, MOST_TOKENS, Tokenizer
from metajax.types import Batches, Examples, Pair


def image_texts(
  source: ImageDataset | ImageTexts | Mixture,
  tokenizer: Tokenizer,
  *,
  batch_size: int,
  max_length: int = LENGTH,
  lengths: Sequence[int] = (),
  seed: int = 0,
  crop: RandomCrop | None = None,
) -> Batches:
  """Batches of image-caption pairs, one per class, for contrastive learning.

  Every class occurs once per epoch, in a uniformly random order, with a uniformly drawn image and caption. A batch
  therefore holds no class twice, whose rows would be false negatives, unless it spans two epochs. Captions are
  tokenized batch by batch, ahead of their use. Of shards every pair is a class of its own, read on access.

  Args:
    source: an `ImageDataset` with captions or `ImageTexts`, as `load_captioned` gives; or a `mixture` of such.
    tokenizer: a `Tokenizer` for its captions.
    batch_size: pairs per batch, over all hosts.
    max_length: tokens per text; a longer text loses its last words, never its end token.
    lengths: shorter lengths to choose from, so that few shapes compile; each batch uses the shortest length that holds
      all its texts, the same on all hosts.
    seed: any 64-bit integer but the largest.
    crop: a random crop to cut from the original image, as for `train_batches`, with one view.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of a `Pair`: images uint8
    `[batch_size/hosts, height, width, channels]`, and tokens int32 `[batch_size/hosts, length]`.

  Raises:
    ValueError: if `batch_size` is not from 1 to the number of classes, a length is out of range, or with `crop` the
      images have no originals.
  """
  classes = _check(source, tokenizer, batch_size, max_length, lengths, seed)
  _check_crop(crop)
  sizes = np.array(sorted({*lengths, max_length}))

  def part(one):
    pairs_of = shard_pairs if isinstance(one, ImageTexts) else _pairs_of_classes
    return pairs_of(one, tokenizer, sizes, batch_size, seed, crop)

  if isinstance(source, Mixture):
    parts, numbers = [part(one) for one in source.sources], [_number_of_classes(one) for one in source.sources]
    return mixed_batches(numbers, source.weights, parts, batch_size, seed, _of_one_length)
  return batches_of(part(source), classes, batch_size, seed)


def _check_crop(crop):
  if crop is not None:
    check_crop(crop)
    checks.count("the crop's views", crop.views, most=1)


def _pairs_of_classes(source, tokenizer, sizes, batch_size, seed, crop):
  """`shard_pairs` of an `ImageDataset`, whose rows are its classes."""
  captions = [text for texts in source.captions for text in texts]
  read = reader(source.images, crop)
  spans = _spans(np.bincount(source.labels, minlength=len(source.classes))), _spans(list(map(len, source.captions)))
  by_class = tf.constant(np.argsort(source.labels, kind="stable"))

  tokens_of = tokenized(lambda rows: [captions[row] for row in rows], tokenizer, sizes)

  def take(classes, mine, place, step):
    noise = tf.gather(tf.reshape(random_integers(2 * batch_size, seed + 1, step), (2, batch_size)), place, axis=1)
    image, text = (_place(noise[i], span, classes) for i, span in enumerate(spans))
    tokens = tf.numpy_function(tokens_of, [text, mine], tf.int32, stateful=False)
    rows, place = tf.gather(by_class, tf.boolean_mask(image, mine)), tf.boolean_mask(place, mine)
    return Examples(drawn(rows, place, batch_size, crop, seed, step), tokens)

  return lambda rows: (Pair(*batch) for batch in read(rows.map(plain(take))))


def _of_one_length(pairs):
  """Pairs whose tokens have the length of the longest."""
  length = max(pair.second.shape[1] for pair in pairs)
  padded = [np.pad(pair.second, ((0, 0), (0, length - pair.second.shape[1]))) for pair in pairs]
  return [Pair(pair.first, tokens) for pair, tokens in zip(pairs, padded, strict=True)]


def _place(random, span, classes):
  """A random index within the span of each class."""
  first, count = (tf.gather(values, classes) for values in span)
  return first + tf.math.floormod(random, count)


def _spans(counts):
  """The starts and lengths of consecutive spans."""
  counts = np.asarray(counts, np.int64)
  return tf.constant(np.cumsum(counts) - counts), tf.constant(counts)


def _number_of_classes(source):
  """The number of classes; of shards each pair is one."""
  if isinstance(source, Mixture):
    return sum(map(_number_of_classes, source.sources))
  if isinstance(source, ImageTexts):
    return len(source.images)
  check_source(source)
  return len(source.classes)


def _check(source, tokenizer, batch_size, max_length, lengths, seed):
  """Checks the arguments, and returns the number of classes."""
  classes = _number_of_classes(source)
  if not isinstance(tokenizer, Tokenizer):
    raise ValueError(f"expected a Tokenizer, as load_tokenizer gives, got {checks.describe(tokenizer)}")
  checks.count("seed", seed, -(2**63), 2**63 - 2)
  checks.count("batch_size", batch_size)
  if batch_size > classes:
    raise ValueError(f"expected a batch_size from 1 to the {classes} classes of the source, got {batch_size}")
  checks.count("max_length", max_length, 2, MOST_TOKENS)
  if any(not isinstance(short, numbers.Integral) or not 2 <= short <= max_length for short in lengths):
    raise ValueError(f"expected lengths from 2 to {max_length}, got {list(lengths)}")
  return classes
