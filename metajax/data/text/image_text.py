"""Batches of images beside texts, as pure functions of (seed, step)."""

import numbers
from collections.abc import Sequence

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.pipeline import in_epochs, plain, random_integers, reader
from metajax.data.sharding import rows_of_host
from metajax.data.source import ImageDataset, check_source
from metajax.data.text.tokenizer import LENGTH, MOST_TOKENS, Tokenizer
from metajax.types import Batches, Examples, Pair


def image_texts(
  source: ImageDataset,
  tokenizer: Tokenizer,
  *,
  batch_size: int,
  max_length: int = LENGTH,
  lengths: Sequence[int] = (),
  seed: int = 0,
) -> Batches:
  """Batches of an image of each of some classes beside one of the class's captions, for contrastive learning.

  Every class comes once an epoch, in a uniformly random order, with an image and a caption of it that are drawn
  uniformly; so a batch has no class twice, whose rows would be taken for negatives, but where it spans two epochs.

  Args:
    source: an `ImageDataset` with captions, such as of `load_captioned`.
    tokenizer: of its captions.
    batch_size: pairs a batch, over all hosts.
    max_length: tokens of a text; a longer one loses its last words, never its end.
    lengths: shorter lengths; a batch takes the shortest that holds all its texts, on all hosts. So few shapes compile.
    seed: any 64-bit integer but the last.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of a `Pair`: images float32
    `[batch_size/hosts, height, width, channels]` in [0, 1], and tokens int32 `[batch_size/hosts, max_length]`.

  Raises:
    ValueError: if `batch_size` is not from 1 to the number of classes, or a length is out of range.
  """
  _check(source, tokenizer, batch_size, max_length, lengths, seed)
  classes = len(source.classes)
  sizes = tf.constant(sorted({*lengths, max_length}), tf.int32)
  tokens = tokenizer([text for texts in source.captions for text in texts], max_length)
  ends = tf.constant((tokens == tokenizer.end).argmax(-1) + 1, tf.int32)
  tokens, read = tf.constant(tokens), reader(source.images)
  spans = _spans(np.bincount(source.labels, minlength=classes)), _spans([len(texts) for texts in source.captions])
  by_class = tf.constant(np.argsort(source.labels, kind="stable"))

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")

    def drawn(step, classes_of_batch):
      noise = tf.reshape(random_integers(2 * batch_size, seed + 1, step), (2, batch_size))
      image, text = (_place(noise[i], span, classes_of_batch) for i, span in enumerate(spans))
      longest = tf.reduce_max(tf.gather(ends, text))
      size = tf.reduce_min(tf.boolean_mask(sizes, sizes >= longest))
      mine = slice(offset, offset + local)
      return Examples(tf.gather(by_class, image[mine]), tf.gather(tokens, text[mine])[:, :size])

    rows = in_epochs(classes, batch_size, seed, start).enumerate(start).map(plain(drawn))
    return (Pair(batch.inputs, batch.labels) for batch in read(rows))

  return batches


def _place(random, span, classes):
  """A place within the spans of some classes."""
  first, count = (tf.gather(values, classes) for values in span)
  return first + tf.math.floormod(random, count)


def _spans(counts):
  """The first place of each of some spans, one after another, and their lengths."""
  counts = np.asarray(counts, np.int64)
  return tf.constant(np.cumsum(counts) - counts), tf.constant(counts)


def _check(source, tokenizer, batch_size, max_length, lengths, seed):
  check_source(source)
  if not isinstance(tokenizer, Tokenizer):
    raise ValueError(f"expected a Tokenizer, as load_tokenizer gives, got {checks.describe(tokenizer)}")
  classes = len(source.classes)
  checks.count("seed", seed, -(2**63), 2**63 - 2)
  checks.count("batch_size", batch_size)
  if batch_size > classes:
    raise ValueError(f"expected a batch_size from 1 to the {classes} classes of the source, got {batch_size}")
  checks.count("max_length", max_length, 2, MOST_TOKENS)
  if any(not isinstance(short, numbers.Integral) or not 2 <= short <= max_length for short in lengths):
    raise ValueError(f"expected lengths from 2 to {max_length}, got {list(lengths)}")
