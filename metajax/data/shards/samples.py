"""Samples with random access, in whatever files they lie, and what takes the place of those that cannot be read."""

import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax import checks
from metajax.data.files.image_file import UnreadableImage
from metajax.data.files.lazy_images import LazyImages, Originals

NAMED = 5  # unreadable samples that are named in a warning each
MOST_IN_A_ROW = 1000  # samples that are replaced by the same one


class Samples(NamedTuple):
  """Samples with random access.

  Attributes:
    name: name of the set, for messages.
    number: number of samples.
    image: `(row) -> bytes`, the encoded image.
    text: `(row) -> str`, the caption.
    label: `(row) -> int or str`, the class.
    place: `(row) -> str`, a sample's name in messages.
    files: paths of the files.
    own: rows of each official split, and of "all".
    left_out: samples that were left out, each with the reason.

  `image`, `text` and `label` raise `UnreadableImage` if the sample has none that can be read.
  """

  name: str
  number: int
  image: Callable[[int], bytes]
  text: Callable[[int], str]
  label: Callable[[int], Any]
  place: Callable[[int], str]
  files: Sequence[str]
  own: dict[str, np.ndarray]
  left_out: tuple[str, ...] = ()


class Readable(NamedTuple):
  """Images that are read on access, an unreadable one replaced by the next.

  Attributes:
    images: uint8 `[n, height, width, channels]`.
    rows: `(rows [k]) -> int64 [k]`, the rows whose images stand for those of some rows, whose images have been read.
  """

  images: LazyImages
  rows: Callable[[np.ndarray], np.ndarray]


def with_replacement(
  read: Callable[[int], np.ndarray],
  number: int,
  shape: tuple[int, int, int],
  following: Callable[[int], int],
  place: Callable[[int], str],
  name: str,
  content: Callable[[int], bytes],
) -> Readable:
  """Images that are read on access; in place of an unreadable one comes the next that can be read.

  Which one that is depends on the files alone, so it is the same at every step and on every host. The first unreadable
  ones are named in a warning, and all are counted in one at the end.

  Args:
    read: `(row) -> uint8 [height, width, channels]`; raises `UnreadableImage`.
    number: number of images.
    shape: (height, width, channels).
    following: `(row) -> row`, the one that comes next; it must lead through some rows and back.
    place: `(row) -> str`, for messages.
    name: name of the set, for messages.
    content: `(row) -> bytes`, the encoded image, from which crops are cut; raises `UnreadableImage`.
  """
  unreadable, instead, lock = {}, {}, threading.Lock()

  def tell(row, error):
    with lock:
      if row in unreadable:
        return
      unreadable[row] = str(error)
      number = len(unreadable)
    if number <= NAMED:
      more = "; further ones are counted" if number == NAMED else ""
      warnings.warn(f"{place(row)} cannot be read ({error}): the next one takes its place{more}", stacklevel=2)

  def read_from(row):
    at = instead.get(row, row)
    for _ in range(min(number, MOST_IN_A_ROW)):
      try:
        image = read(at)
      except UnreadableImage as error:
        tell(at, error)
        at = following(at)
        continue
      if at != row:
        instead[row] = at
      return image
    why = f"{place(row)} ({unreadable[row]})"
    raise ValueError(f"expected images that can be read in {name}, got none from {why} on")

  def read_all(rows):
    return np.stack([read_from(row) for row in rows.tolist()])

  def rows_of(rows):
    return np.array([instead.get(row, row) for row in rows.tolist()], np.int64) if instead else rows

  weakref.finalize(read_all, _tell_count, unreadable, name)
  originals = Originals(lambda rows: [_or_empty(content, row) for row in rows.tolist()], rows_of)
  return Readable(LazyImages(read_all, shape, np.arange(number), originals=originals), rows_of)


def _or_empty(content, row):
  """The bytes of an image, none if they cannot be read: then nothing can be decoded from them either."""
  try:
    return content(row)
  except UnreadableImage:
    return b""


def _tell_count(unreadable, name):
  if unreadable:
    noun = checks.counted(len(unreadable), "sample")
    warnings.warn(f"{noun} of {name} could not be read, and others took their place", stacklevel=1)
