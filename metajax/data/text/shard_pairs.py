"""Pairs of an image and its text from shards, as pure functions of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from metajax.data._tensorflow import tf
from metajax.data.files.crops import RandomCrop
from metajax.data.pipeline import crop_reader, drawn, plain, reader
from metajax.data.shards.captioned import ImageTexts
from metajax.data.text.tokenizer import Tokenizer
from metajax.types import Examples, Pair


def shard_pairs(
  source: ImageTexts, tokenizer: Tokenizer, sizes: np.ndarray, batch_size: int, seed: int, crop: RandomCrop | None
) -> Callable[[tf.data.Dataset], Iterator[Pair]]:
  """A function from a dataset of rows, as `batches_of` gives, to an iterator of this host's pairs of `ImageTexts`.

  Texts are read and tokenized ahead. Where another pair has taken the place of one whose image cannot be read, its text
  has too: of at most the batch's length, which the pairs' own texts decide, so that hosts agree on it.

  Args:
    source: the pairs.
    tokenizer, batch_size, seed, crop: as for `image_texts`.
    sizes: lengths to choose from, ascending, `[k]`.
  """
  tokens_of = tokenized(source.texts, tokenizer, sizes)

  def take(rows, mine, place, step):
    tokens = tf.numpy_function(tokens_of, [rows, mine], tf.int32, stateful=False)
    rows, place = tf.boolean_mask(rows, mine), tf.boolean_mask(place, mine)
    return Examples(drawn(rows, place, batch_size, crop, seed, step), (rows, tokens))

  def shown(labels, used):
    return _of_shown(source, tokenizer, *labels, used)

  if crop is not None:
    read = crop_reader(source.images, crop, shown)
    return lambda rows: (Pair(*batch) for batch in read(rows.map(plain(take))))
  read = reader(source.images)
  return lambda rows: (
    Pair(batch.inputs, shown(batch.labels, source.shown(batch.labels[0]))) for batch in read(rows.map(plain(take)))
  )


def tokenized(texts: Callable[[np.ndarray], list[str]], tokenizer: Tokenizer, sizes: np.ndarray) -> Callable:
  """`(rows of a batch, whether each is this host's) -> tokens` of this host's, where `texts(rows)` are their texts."""

  def tokens_of(rows, mine):
    # All texts of the batch decide the length, but without a choice a host needs its own alone.
    asked, kept = (rows, mine) if len(sizes) > 1 else (rows[mine], slice(None))
    tokens = tokenizer(texts(asked), sizes[-1])
    longest = int((tokens == tokenizer.end).argmax(-1).max(initial=0)) + 1
    return tokens[:, : sizes[sizes >= longest].min()][kept]

  return tokens_of


def _of_shown(source, tokenizer, rows, tokens, used):
  """The tokens of the pairs whose images are shown."""
  replaced = np.flatnonzero(used != rows)
  if not len(replaced):
    return tokens
  tokens = tokens.copy()
  tokens[replaced] = tokenizer(source.texts(used[replaced]), tokens.shape[1])
  return tokens
