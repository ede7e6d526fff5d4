"""Batches of image-text pairs from shards, as pure functions of (seed, step)."""

from collections.abc import Sequence

import numpy as np

from metajax.data._tensorflow import tf
from metajax.data.files.crops import RandomCrop
from metajax.data.mixture import Mixture, check_no_crop, mixed_batches
from metajax.data.pipeline import crop_draws, crop_reader, in_epochs, plain, reader
from metajax.data.sharding import rows_of_host
from metajax.data.shards.captioned import ImageTexts
from metajax.data.text.tokenizer import Tokenizer
from metajax.types import Batches, Examples, Pair


def shard_pairs(
  source: ImageTexts | Mixture,
  tokenizer: Tokenizer,
  batch_size: int,
  max_length: int,
  lengths: Sequence[int],
  seed: int,
  crop: RandomCrop | None = None,
) -> Batches:
  """`image_texts` of `ImageTexts`: every pair once per epoch, in a uniformly random order; or of a mixture of such.

  Texts are read and tokenized ahead. Where another pair has taken the place of one whose image cannot be read, its text
  has too: of at most the batch's length, which the pairs' own texts decide, so that hosts agree on it.
  """
  sizes = np.array(sorted({*lengths, max_length}))
  if isinstance(source, Mixture):
    check_no_crop(crop)
    parts = [_pairs_of(one, tokenizer, sizes) for one in source.sources]
    numbers = [len(one.images) for one in source.sources]
    return mixed_batches(numbers, source.weights, parts, batch_size, seed, _of_one_length)
  if crop is not None:
    return _cropped(source, tokenizer, sizes, batch_size, seed, crop)
  read = _pairs_of(source, tokenizer, sizes)

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")
    mine = (np.arange(batch_size) >= offset) & (np.arange(batch_size) < offset + local)
    return read(in_epochs(len(source.images), batch_size, seed, start).map(plain(lambda rows: (rows, mine))))

  return batches


def _pairs_of(source, tokenizer, sizes):
  """A function from datasets of (rows of a batch, whether each is this host's) to iterators of this host's pairs."""
  read, tokenized = reader(source.images), _tokenized(source, tokenizer, sizes)

  def drawn(rows, mine):
    tokens = tf.numpy_function(tokenized, [rows, mine], tf.int32, stateful=False)
    rows = tf.boolean_mask(rows, mine)
    return Examples(rows, (rows, tokens))

  def shown(rows, tokens):
    return _of_shown(source, tokenizer, rows, tokens, source.shown(rows))

  return lambda rows: (Pair(batch.inputs, shown(*batch.labels)) for batch in read(rows.map(plain(drawn))))


def _cropped(source, tokenizer, sizes, batch_size, seed, crop):
  """`shard_pairs` of crops of the originals."""
  tokenized = _tokenized(source, tokenizer, sizes)
  label = lambda labels, used: _of_shown(source, tokenizer, *labels, used)  # noqa: E731
  read = crop_reader(source.images, crop, label)

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")
    mine = slice(offset, offset + local)
    here = (np.arange(batch_size) >= offset) & (np.arange(batch_size) < offset + local)

    def drawn(step, rows):
      tokens = tf.numpy_function(tokenized, [rows, here], tf.int32, stateful=False)
      return Examples((rows[mine], crop_draws(batch_size, crop, seed, step)[mine]), (rows[mine], tokens))

    rows = in_epochs(len(source.images), batch_size, seed, start).enumerate(start)
    return (Pair(batch.inputs, batch.labels) for batch in read(rows.map(plain(drawn))))

  return batches


def _tokenized(source, tokenizer, sizes):
  """`(rows of a batch, whether each is this host's) -> tokens` of this host's."""

  def tokenized(rows, mine):
    # All texts of the batch decide the length, but without a choice a host needs its own alone.
    asked, kept = (rows, mine) if len(sizes) > 1 else (rows[mine], slice(None))
    tokens = tokenizer(source.texts(asked), sizes[-1])
    longest = int((tokens == tokenizer.end).argmax(-1).max(initial=0)) + 1
    return tokens[:, : sizes[sizes >= longest].min()][kept]

  return tokenized


def _of_shown(source, tokenizer, rows, tokens, used):
  """The tokens of the pairs whose images are shown."""
  replaced = np.flatnonzero(used != rows)
  if not len(replaced):
    return tokens
  tokens = tokens.copy()
  tokens[replaced] = tokenizer(source.texts(used[replaced]), tokens.shape[1])
  return tokens


def _of_one_length(pairs):
  """Pairs whose tokens have the length of the longest."""
  length = max(pair.second.shape[1] for pair in pairs)
  padded = [np.pad(pair.second, ((0, 0), (0, length - pair.second.shape[1]))) for pair in pairs]
  return [Pair(pair.first, tokens) for pair, tokens in zip(pairs, padded, strict=True)]
