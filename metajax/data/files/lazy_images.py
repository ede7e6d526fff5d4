"""Images with random access that are read and decoded on access, in threads that all sets share."""

import concurrent.futures
import functools
import operator
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax import checks
from metajax.data.files.crops import RandomCrop, read_crops

BYTES_IN_MEMORY = 2**30  # sets that are larger, decoded, stay on disk
CHUNK = 32  # images per unit of work of a thread


class Originals(NamedTuple):
  """The files that crops are cut from.

  Attributes:
    contents: `(files int64 [k]) -> [bytes]`.
    instead: `(files int64 [k]) -> int64 [k]`: the files that take the place of some that cannot be decoded, once these
      have been read.
  """

  contents: Callable[[np.ndarray], Sequence[bytes]]
  instead: Callable[[np.ndarray], np.ndarray] = lambda files: files


class LazyImages:
  """Images uint8 `[n, height, width, channels]` that are decoded on access, and otherwise behave much like an array.

  `images[rows]` decodes one image, a slice, or an array of rows. `images.take(rows)` and `images.with_quarter_turns()`
  read nothing and hold no pixels.

  Args:
    read: `(files int64 [k]) -> uint8 [k, height, width, channels]`, a new array; it is called from many threads.
    shape: (height, width, channels).
    files: file number of each image, integers `[n]`, as passed to `read`.
    turns: counterclockwise quarter turns of each image, `[n]`; by default none.
    originals: the files' contents, from which crops are cut; by default none.
  """

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self,
    read: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int, int],
    files: np.ndarray,
    turns: np.ndarray | None = None,
    originals: Originals | None = None,
  ):
    files = np.asarray(files)
    turns = np.zeros(len(files), np.uint8) if turns is None else np.asarray(turns)
    whole = not files.size or (files.dtype.kind in "iu" and turns.dtype.kind in "iu")
    if len(shape) != 3 or files.ndim != 1 or turns.shape != files.shape or not whole:
      given = f"{list(shape)}, {checks.describe(files)} and {checks.describe(turns)}"
      raise ValueError(f"expected (height, width, channels) and integers [n] of files and turns, got {given}")
    if originals is not None:
      checks.record("originals", originals, Originals)
    self._read, self._files, self._turns = read, files.astype(np.int64), (turns % 4).astype(np.uint8)
    self._originals = originals
    self.shape = (len(files), *shape)

  def __len__(self):
    return len(self._files)

  def __repr__(self):
    return f"LazyImages{list(self.shape)}"

  def __array__(self, dtype=None, copy=None):
    return np.asarray(self[:], dtype)

  def __getitem__(self, rows: Any) -> np.ndarray:
    return self.start(rows)()

  def take(self, rows: Any) -> "LazyImages":
    """The `LazyImages` of the given rows."""
    return LazyImages(self._read, self.shape[1:], self._files[rows], self._turns[rows], self._originals)

  def with_quarter_turns(self) -> "LazyImages":
    """The `LazyImages` of these images, and of these rotated by 90, 180 and 270 degrees, `[4 * n]`."""
    turns = np.concatenate([(self._turns + turn) % 4 for turn in range(4)])
    return LazyImages(self._read, self.shape[1:], np.tile(self._files, 4), turns, self._originals)

  @property
  def have_originals(self) -> bool:
    """Whether crops can be cut from the original files."""
    return self._originals is not None and not self._turns.any()

  def read(self, rows: np.ndarray) -> np.ndarray:
    """Decodes the images of an array of rows `[k]`, in the calling thread."""
    return self._turned(self._files[rows], self._turns[rows])

  def _turned(self, files, turns):
    images = self._read(files)
    for turn in set(turns.tolist()) - {0}:
      turned = turns == turn
      images[turned] = np.rot90(images[turned], turn, axes=(1, 2))
    return images

  def start(self, rows: Any) -> Callable[[], np.ndarray]:
    """Starts to decode `images[rows]` in threads; the returned function waits for the images and returns them."""
    files, turns = self._files[rows], self._turns[rows]
    decoded = np.empty((*files.shape, *self.shape[1:]), np.uint8)
    flat = decoded.reshape(-1, *self.shape[1:])
    files, turns = files.reshape(-1), turns.reshape(-1)

    def fill(chunk):
      flat[chunk] = self._turned(files[chunk], turns[chunk])

    wait = in_threads(fill, len(flat))
    return lambda: wait() or decoded

  def start_crops(
    self, rows: np.ndarray, draws: np.ndarray, crop: RandomCrop
  ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """Starts to cut crops from the originals of rows `[n]`, with uniform `draws` `[n, views, DRAWS]`, in threads.

    Returns:
      A function that waits for the crops and returns them, uint8 `[n, views, size, size, channels]`, and the numbers of
      the files that they are of, `[n]`. Whether another file takes a place depends on the file and the crop alone.
    """
    assert self._originals is not None
    files, channels, originals = self._files[rows], self.shape[-1], self._originals
    found = np.empty((crop.views, len(files), crop.size, crop.size, channels), np.uint8).swapaxes(0, 1)

    used = files.copy()

    def cut(chunk):
      contents = originals.contents(files[chunk])
      for i in read_crops(contents, draws[chunk], crop, channels, found[chunk]):
        one = slice(chunk.start + i, chunk.start + i + 1)
        self._read(files[one])  # raises with the file's name, or lets another take its place
        used[one] = originals.instead(files[one])
        for error in read_crops(originals.contents(used[one]), draws[one], crop, channels, found[one]).values():
          raise ValueError(f"an image cannot be cropped: {error}")

    wait = in_threads(cut, len(files))
    return lambda: wait() or (found, used)


def take(images: np.ndarray | LazyImages, rows: np.ndarray) -> np.ndarray | LazyImages:
  """The given rows of an array or of `LazyImages`."""
  return images.take(rows) if isinstance(images, LazyImages) else images[rows]


def joined(images: Sequence[np.ndarray | LazyImages], blanks: int = 0) -> np.ndarray | LazyImages:
  """The images of several sets of one shape, one after the other, then black ones: an array if all sets are.

  Args:
    images: at least one set.
    blanks: number of black images at the end, which take no time to read.
  """
  parts = [*images, np.zeros((blanks, *images[0].shape[1:]), np.uint8)]
  if not any(isinstance(part, LazyImages) for part in parts):
    return np.concatenate([np.asarray(part) for part in parts])
  ends = np.cumsum([len(part) for part in parts])

  def read(rows):
    of_part, pixels = np.searchsorted(ends, rows, side="right"), np.empty((len(rows), *parts[0].shape[1:]), np.uint8)
    for number in set(of_part.tolist()):
      chosen, part = of_part == number, parts[number]
      local = rows[chosen] - (ends[number] - len(part))
      pixels[chosen] = part.read(local) if isinstance(part, LazyImages) else part[local]
    return pixels

  return LazyImages(read, parts[0].shape[1:], np.arange(ends[-1]))


def fits_in_memory(number: int, shape: Sequence[int]) -> bool:
  """Whether `number` decoded images of a shape are kept in memory."""
  return number * functools.reduce(operator.mul, shape) <= BYTES_IN_MEMORY


def in_threads(call: Callable[[slice], None], number: int) -> Callable[[], None]:
  """Starts `call(slice)` in threads, for slices that cover `range(number)`.

  Returns:
    `wait()`, which waits for all slices and raises the exception of the first one that failed. Once it is garbage
    collected, the remaining slices are skipped.
  """

  futures = []

  def wait():
    try:
      for future in futures:
        future.result()
    except BaseException:
      for future in futures:
        future.cancel()
      raise

  waiting = weakref.ref(wait)

  def call_if_wanted(chunk):
    if waiting() is not None and not _at_exit():
      call(chunk)

  futures += [_pool().submit(call_if_wanted, slice(i, i + CHUNK)) for i in range(0, number, CHUNK)]
  return wait


def _at_exit():
  """Whether the interpreter is exiting: it then waits for queued work, but its pools accept no more."""
  try:
    _pool().submit(int)
  except RuntimeError:
    return True
  return False


@functools.cache
def _pool():
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  return concurrent.futures.ThreadPoolExecutor(cores, thread_name_prefix="metajax-images")


if hasattr(os, "register_at_fork"):
  os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
