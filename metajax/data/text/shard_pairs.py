"""Batches of image-text pairs from shards, as pure functions of (seed, step)."""

from collections.abc import Sequence

import numpy as np

from metajax.data._tensorflow import tf
from metajax.data.pipeline import in_epochs, plain, reader
from metajax.data.sharding import rows_of_host
from metajax.data.shards.captioned import ImageTexts
from metajax.data.text.tokenizer import Tokenizer
from metajax.types import Batches, Examples, Pair


def shard_pairs(
  source: ImageTexts, tokenizer: Tokenizer, batch_size: int, max_length: int, lengths: Sequence[int], seed: int
) -> Batches:
  """`image_texts` of `ImageTexts`: every pair once per epoch, in a uniformly random order.

  Texts are read and tokenized ahead. Where another pair has taken the place of one whose image cannot be read, its text
  has too: of at most the batch's length, which the pairs' own texts decide, so that hosts agree on it.
  """
  read, number = reader(source.images), len(source.images)
  sizes = np.array(sorted({*lengths, max_length}))

  def tokenized(rows):
    tokens = tokenizer(source.texts(rows), max_length)
    longest = int((tokens == tokenizer.end).argmax(-1).max()) + 1
    return tokens[:, : sizes[sizes >= longest].min()]

  def shown(rows, tokens):
    """The tokens of the pairs whose images are shown."""
    replaced = np.flatnonzero(source.shown(rows) != rows)
    if not len(replaced):
      return tokens
    tokens = tokens.copy()
    tokens[replaced] = tokenizer(source.texts(source.shown(rows[replaced])), tokens.shape[1])
    return tokens

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")

    def drawn(rows):
      mine = slice(offset, offset + local)
      # All texts of the batch decide the length, but without a choice a host needs its own alone.
      asked, kept = (rows, mine) if len(sizes) > 1 else (rows[mine], slice(None))
      tokens = tf.numpy_function(lambda rows: tokenized(rows)[kept], [asked], tf.int32, stateful=False)
      return Examples(rows[mine], (rows[mine], tokens))

    rows = in_epochs(number, batch_size, seed, start).map(plain(drawn))
    return (Pair(batch.inputs, shown(*batch.labels)) for batch in read(rows))

  return batches
