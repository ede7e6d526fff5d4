"""Image files that are read on access, with broken files detected before the first one is drawn."""

import concurrent.futures
import hashlib
import os
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
import PIL

from metajax.data.builtin.cache import cache_folder, write_arrays
from metajax.data.builtin.cache import read as read_cache
from metajax.data.files.image_file import UnreadableImage, check_beginning, read_image
from metajax.data.files.lazy_images import in_threads
from metajax.data.files.opening import open_regular
from metajax.types import Preprocessing

READERS = 16  # threads that check the beginnings of files; on a cold disk they mostly wait
SECONDS = 10  # between progress messages


class Files:
  """Reads images by file number, uint8 `[k, height, width, channels]`.

  Args:
    paths: paths of the files.
    shape: (height, width, channels).
    advice: end of the error message for a file that cannot be read.
    preprocessing: as for `read_image`.
  """

  def __init__(
    self, paths: Sequence[str], shape: tuple[int, int, int], advice: str, preprocessing: Preprocessing | None = None
  ):
    self._paths, self._shape, self._advice, self._how = paths, shape, advice, preprocessing

  def __call__(self, numbers: np.ndarray) -> np.ndarray:
    return np.stack([self._image(self._paths[number]) for number in numbers.tolist()])

  def originals(self, numbers: np.ndarray) -> list[bytes]:
    """The contents of files."""
    return [self._content(self._paths[number]) for number in numbers.tolist()]

  def _content(self, path):
    try:
      with open_regular(path, buffering=0) as file:
        return file.read()
    except OSError as error:
      raise ValueError(f"the image {path!r} cannot be read ({error.strerror}); {self._advice}") from None

  def _image(self, path):
    try:
      return read_image(path, size=self._shape[0], channels=self._shape[-1], preprocessing=self._how)
    except UnreadableImage as error:
      raise ValueError(f"the image {path!r} cannot be read ({error}); {self._advice}") from None


def unreadable_beginnings(paths: Sequence[str]) -> dict[int, str]:
  """`{number: reason}` of the files that do not begin like an image; takes microseconds per file."""
  unreadable = {}

  def look(first):
    for i in range(first, min(first + 256, len(paths))):
      try:
        check_beginning(paths[i])
      except UnreadableImage as error:
        unreadable[i] = str(error)

  with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
    list(pool.map(look, range(0, len(paths), 256)))
  return unreadable


def unreadable_files(
  name: str, paths: Sequence[str], shape: tuple[int, int, int], preprocessing: Preprocessing | None = None
) -> dict[int, str]:
  """`{number: reason}` of the files that cannot be read to their end.

  Each file is read once, like by `Files`. Good files are remembered in the cache until their size or modification time,
  the shape or Pillow's version changes. Progress is printed to the terminal every 10 seconds.

  Args:
    name: name of the set, for messages and the cache.
    paths, shape, preprocessing: as for `Files`.
  """
  cache = cache_folder() / f"verified-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:20]}.npz"
  known = read_cache(cache, lambda stored: stored["stamps"].astype(np.uint64))
  known = np.zeros(0, np.uint64) if known is None else known
  seen_as = shape if preprocessing is None else (shape, preprocessing)
  stamps = np.array([_stamp(path, seen_as) for path in paths], np.uint64)
  unknown = np.flatnonzero((stamps == 0) | ~np.isin(stamps, known))
  said, unreadable, good = Progress(f"verified {{}} of {len(unknown):,} images of {name}", len(unknown)), {}, []

  def verify(chunk):
    for i in unknown[chunk].tolist():
      try:
        read_image(paths[i], size=shape[0], channels=shape[-1], preprocessing=preprocessing)
        good.append(i)
      except UnreadableImage as error:
        unreadable[i] = str(error)
    said.advance(len(range(len(unknown))[chunk]))

  try:
    in_threads(verify, len(unknown))()
  finally:  # an interrupted verification resumes from here
    if good:
      write_arrays(cache, {"stamps": np.union1d(known, stamps[list(good)])})
  return unreadable


def _stamp(path, seen_as) -> int:
  """A number that changes with the file; 0 for a missing file."""
  try:
    status = os.stat(path)
  except (OSError, ValueError):
    return 0
  said = os.path.abspath(path), status.st_size, status.st_mtime_ns, seen_as, PIL.__version__
  return int.from_bytes(hashlib.blake2b(repr(said).encode(), digest_size=8).digest(), "little")


class Progress:
  """Prints progress every 10 seconds.

  Args:
    line: message with a placeholder `{}` for the number done.
    number: total number.
  """

  def __init__(self, line: str, number: int):
    self._line, self._number, self._done, self._said = line, number, 0, time.monotonic()
    self._lock, self._began = threading.Lock(), time.monotonic()

  def advance(self, done: int):
    """Counts `done` more; callable from any thread."""
    with self._lock:
      self._done, now = self._done + done, time.monotonic()
      if now - self._said < SECONDS:
        return
      self._said = now
      left = (now - self._began) * (self._number - self._done) / self._done
      print(f"{self._line.format(f'{self._done:,}')}, {left / 60:.0f} minutes left", file=sys.stderr, flush=True)
