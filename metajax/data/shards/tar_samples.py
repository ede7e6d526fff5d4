"""The samples of tar shards, as webdataset and img2dataset write them."""

import functools
import json
import os
from collections.abc import Callable

import numpy as np

from metajax.data.files.image_file import UnreadableImage
from metajax.data.files.opening import open_regular
from metajax.data.shards.index import index_of
from metajax.data.shards.patterns import own_splits
from metajax.data.shards.samples import Samples
from metajax.data.shards.tar import BLOCK, shown

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "jp2", "avif")
KINDS = {"caption": ("txt", "json"), "label": ("cls", "json")}
MOST_OPEN = 256  # files, of all sets


def tar_samples(name: str, files: list[str], second: str) -> Samples:
  """The `Samples` of tar shards, each with an image and `second`, "caption" or "label".

  A caption is a member `.txt`, or "caption" in a member `.json`; a label is a member `.cls`, or "label" in a `.json`.

  Raises:
    OSError: if a shard cannot be read.
    ValueError: if no sample has both.
  """
  ends = KINDS[second]
  index = index_of(name, files, (IMAGES, *((end,) for end in ends)), (("image", (0,)), (second, (1, 2))))
  stamps = [stamp_of(path) for path in files]

  def read(row, kind):
    shard = index.shards[row]
    return read_bytes(files[shard], stamps[shard], int(index.starts[row, kind]), int(index.lengths[row, kind]))

  def described(row, key):
    if index.lengths[row, 1] >= 0:
      return read(row, 1).decode("utf-8", "replace").strip()
    try:
      return json.loads(read(row, 2))[key]
    except (ValueError, LookupError, TypeError, RecursionError):
      raise UnreadableImage(f"its json has no {key!r}") from None

  def text(row):
    found = described(row, "caption")
    if not isinstance(found, str) or not found.strip():
      raise UnreadableImage("its caption is empty")
    return found.strip()

  def place(row):
    header = read_bytes(files[index.shards[row]], stamps[index.shards[row]], int(index.starts[row, 0]) - BLOCK, 100)
    return f"{files[index.shards[row]]}: {shown(header.split(bytes(1))[0])}"

  return Samples(
    name=name,
    number=len(index.shards),
    image=lambda row: read(row, 0),
    text=text,
    label=lambda row: described(row, "label"),
    place=place,
    files=files,
    own=official_rows(files, index.shards),
    left_out=index.left_out,
  )


def official_rows(files: list[str], shards: np.ndarray) -> dict[str, np.ndarray]:
  """The rows of each official split, if the shards' paths say which theirs is, and of all."""
  splits, own = own_splits(files), {"all": np.arange(len(shards))}
  if splits is None:
    return own
  split_of = np.array(splits)[shards]
  return {split: np.flatnonzero(split_of == split) for split in dict.fromkeys(splits)} | own


def stamp_of(path: str) -> tuple[int, int]:
  """The size and the time of modification of a file."""
  status = os.stat(path)
  return status.st_size, status.st_mtime_ns


class _File:
  """An open file, closed once no one reads it any more."""

  def __init__(self, path, stamp):
    self.path = path
    with open_regular(path, buffering=0) as file:
      status = os.fstat(file.fileno())
      if (status.st_size, status.st_mtime_ns) != stamp:
        raise ValueError(f"the shard {path!r} has changed since it was indexed: expected it to stay as it was")
      self.descriptor = os.dup(file.fileno())

  def __del__(self):
    if hasattr(self, "descriptor"):
      os.close(self.descriptor)


_opened: Callable = functools.lru_cache(MOST_OPEN)(_File)


def read_bytes(path: str, stamp: tuple[int, int], start: int, length: int) -> bytes:
  """Some bytes of a file, which stays open for the next.

  Raises:
    ValueError: if the file is not as it was at `stamp_of`.
    UnreadableImage: if bytes are missing.
  """
  file = _opened(path, stamp)  # held until it is read, should the cache drop it
  content = os.pread(file.descriptor, length, start)
  if len(content) != length:
    raise UnreadableImage(f"{length - len(content):,} of its {length:,} bytes are missing")
  return content
