"""Captioned shards: pairs of an image and its text, both read on access."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.data.files.image_file import UnreadableImage, read_encoded
from metajax.data.files.lazy_images import LazyImages
from metajax.data.shards.opening import open_samples
from metajax.data.shards.samples import with_replacement
from metajax.data.shards.verified import readable_rows
from metajax.data.source import ImageDataset, from_arrays
from metajax.data.splits import check_split
from metajax.types import Preprocessing

HELD_OUT = 5000  # pairs of each part that is held out, at most a fifth of all


class ImageTexts(NamedTuple):
  """Pairs of an image and its text with random access; neither is kept in memory.

  Attributes:
    images: uint8 `[n, height, width, 3]`, 0 to 255, read on access; in place of a pair that cannot be read comes the
      next.
    texts: `(rows [k]) -> k texts`, each pair's own; "" if it cannot be read.
    shown: `(rows [k]) -> int64 [k]`: the pairs whose images stand for those of some rows, once these have been read.
    encoded: `(rows [k]) -> k` bytes, each pair's own image as it is stored.
    unreadable: samples that were left out, each with the reason.
  """

  images: LazyImages
  texts: Callable[[np.ndarray], list[str]]
  shown: Callable[[np.ndarray], np.ndarray]
  encoded: Callable[[np.ndarray], list[bytes]]
  unreadable: tuple[str, ...] = ()

  def __repr__(self) -> str:
    """The sizes."""
    return f"ImageTexts({len(self.images):,} images {'x'.join(map(str, self.images.shape[1:]))}, a text each)"


def captioned_shards(
  name: str,
  split: str,
  *,
  size: int,
  seed: int = 0,
  skip_unreadable: bool = False,
  preprocessing: Preprocessing | None = None,
) -> ImageTexts:
  """The `ImageTexts` of one part of captioned shards, for `metajax.data.load_captioned`.

  Samples without an image or a caption are left out. Official splits are found as for labeled shards; otherwise 5,000
  pairs, at most a fifth, are held out at random for "validation", and as many for "test".

  Args:
    name: pattern of the shards.
    split, size, seed, skip_unreadable, preprocessing: as for `load_captioned`.

  Raises:
    OSError: if a shard is missing or cannot be read.
    ValueError: if the pattern is malformed, or no sample has an image and a caption.
  """
  samples = open_samples(name, "caption")
  check_split(samples.name, split, samples.own)
  rows, left_out = _part(samples, split, seed), samples.left_out
  samples = samples._replace(own={})  # 8 bytes a sample
  side = size if preprocessing is None else preprocessing.pixels

  def content(row):
    samples.text(row)  # a pair without a text is as unreadable as one without an image
    return samples.image(row)

  def read(row):
    return read_encoded(content(row), size=size, channels=3, preprocessing=preprocessing)

  def text(row):
    try:
      return samples.text(row)
    except UnreadableImage:
      return ""

  if skip_unreadable:
    rows, unreadable = readable_rows(samples, split, rows, read, ("captioned", size, preprocessing))
    left_out += unreadable
  found = with_replacement(
    lambda i: read(int(rows[i])),
    len(rows),
    (side, side, 3),
    lambda i: (i + 1) % len(rows),
    lambda i: samples.place(int(rows[i])),
    samples.name,
    lambda i: content(int(rows[i])),
  )
  return ImageTexts(
    images=found.images,
    texts=lambda some: [text(row) for row in rows[some].tolist()],
    shown=found.rows,
    encoded=lambda some: [samples.image(row) for row in rows[some].tolist()],
    unreadable=left_out,
  )


def as_image_dataset(source: ImageTexts) -> ImageDataset:
  """Pairs as an `ImageDataset` for evaluation: each is a class of its own, and its text is kept in memory.

  Args:
    source: pairs that can all be read, as `load_captioned` gives them with `skip_unreadable`.

  Returns:
    An `ImageDataset` of the same images in the same order.

  Raises:
    ValueError: if a text cannot be read.
  """
  if not isinstance(source, ImageTexts):
    raise ValueError(f"expected ImageTexts, as load_captioned gives of shards, got {checks.describe(source)}")
  number = len(source.images)
  texts = source.texts(np.arange(number))
  if "" in texts:
    raise ValueError(f"expected texts that can be read (skip_unreadable=True), got none in pair {texts.index('')}")
  found = from_arrays(source.images, np.arange(number), captions=[(text,) for text in texts])
  return found._replace(unreadable=source.unreadable)


def _part(samples, split, seed):
  """The rows of a part: an official split, or dealt by a seed, with few held out of many."""
  own = samples.own
  if split.startswith("official/"):
    return own[split.removeprefix("official/")]
  official = {"train", "test"} <= set(own)
  dealt = [part for part in ("validation", "test") if not (official and part in own)]
  if official and split in own and not (split == "train" and dealt):
    return own[split]
  pool = own["train"] if official else own["all"]
  cut = min(HELD_OUT, len(pool) // 5)
  if not cut:
    raise ValueError(f"{samples.name} has {len(pool)} pairs: expected 5 or more, to hold some of them out")
  shuffled = np.random.RandomState(seed).permutation(pool)  # its stream is frozen by NumPy
  parts = {part: shuffled[i * cut : (i + 1) * cut] for i, part in enumerate(dealt)}
  return np.sort(parts.get(split, shuffled[len(dealt) * cut :]))
