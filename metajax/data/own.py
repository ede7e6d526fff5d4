"""One's own pictures as a `Source`: read at once where they fit in memory, else when they are asked for."""

import concurrent.futures
import os
import threading
import warnings

import numpy as np
from PIL import Image

from metajax.data.arrays import read_npz
from metajax.data.folders import read_folder
from metajax.data.parts import check_split, choose
from metajax.data.pictures import Pictures, fits_in_memory, in_threads
from metajax.data.pillow import BrokenPicture, check_beginning, is_grey, read_picture, resized
from metajax.data.sources import Source
from metajax.data.tables import read_csv

FILES_IN_MEMORY = 20_000  # decoded at the start, in 3 (28 x 28) to 20 seconds (photographs); more stay where they are
LOOKED_AT = 4096  # files, spread evenly, that say whether a set is grey
READERS = 16  # threads that look at the beginnings of files: on a cold disk they wait rather than work


def is_path(name):
  """Whether a data set's name can only be a file or folder."""
  return (
    os.path.isabs(name) or name.startswith(("./", "../", "~")) or name.endswith((".csv", ".npz")) or name in (".", "..")
  )


def load_own(path, split, *, size, seed, skip_broken):
  """The `Source` of a part of one's own pictures: see `metajax.data.load`.

  Raises:
    FileNotFoundError, PermissionError, NotADirectoryError: a file or folder cannot be read.
    ValueError: the pictures, classes or splits are not as expected, or pictures are broken and not to be skipped.
  """
  path = os.path.expanduser(path)
  table = (read_csv if path.endswith(".csv") else read_npz if path.endswith(".npz") else read_folder)(path)
  return source_of(table, split, size=size, seed=seed, skip_broken=skip_broken)


def source_of(table, split, *, size, seed, skip_broken):
  """The `Source` of a part of a `Table`; arguments and errors are those of `load_own`."""
  check_split(table.name, split, table.own)
  rows, _ = choose(table.name, split, table.labels, table.own, seed)
  _tell_if_dealt_anew(table, split)
  if isinstance(table.pictures, np.ndarray):
    return _source(table, rows, _resized(table.pictures[rows], size))
  spread = np.unique(np.linspace(0, len(table.pictures) - 1, LOOKED_AT).astype(int))
  channels = 1 if all(_grey_or_broken(table.pictures[row]) for row in spread) else 3
  shape, paths = (size, size, channels), [table.pictures[row] for row in rows]
  at_once = len(rows) <= FILES_IN_MEMORY and fits_in_memory(len(rows), shape)
  images, broken = _decode(paths, shape) if at_once else (None, _check(paths))
  if broken:
    _refuse(table, rows, broken, skip_broken)
  good = np.array([i for i in range(len(rows)) if i not in broken], np.int64)
  if not len(good):
    raise ValueError(f"split {split!r} of {table.name} holds no picture that can be read")
  rows, missing = rows[good], tuple(table.places[rows[i]] for i in sorted(broken))
  if at_once:
    images = images[good] if broken else images
  else:
    files = Files([paths[i] for i in good], table.labels[rows], shape, skip_broken)
    images = Pictures(files, shape, np.arange(len(rows)))
  return _source(table, rows, images, missing)


def _tell_if_dealt_anew(table, split):
  shared = np.intersect1d(*(table.labels[table.own[part]] for part in ("train", "test"))) if "test" in table.own else ()
  if len(shared) and not split.startswith("own/"):
    warnings.warn(
      f"train and test of {table.name} share {len(shared)} classes: the classes of all pictures are dealt out anew",
      stacklevel=4,
    )


def _source(table, rows, images, broken=()):
  present, labels = np.unique(table.labels[rows], return_inverse=True)
  classes = tuple(table.classes[c] for c in present)
  return Source(
    images=images,
    labels=labels.astype(np.int32),
    classes=classes,
    groups=tuple(table.groups[c] for c in present),
    captions=tuple((name,) for name in classes),
    styles=("",) * len(rows),
    broken=broken,
  )


def _refuse(table, rows, broken, skip_broken):
  if skip_broken:
    return
  raise BrokenPictures([f"{table.places[rows[i]]} ({broken[i]})" for i in sorted(broken)], len(rows), table.name)


class BrokenPictures(ValueError):
  """Pictures of one's own that cannot be read.

  Attributes:
    files: the name of each, and why.
    number: of pictures there are.
  """

  def __init__(self, files: list[str], number: int, name: str):
    more = f" and {len(files) - 5} more" if len(files) > 5 else ""
    super().__init__(
      f"{len(files)} of {number} pictures of {name} cannot be read: {', '.join(files[:5])}{more}; "
      "pass skip_broken=True (--skip-broken) to leave them out"
    )
    self.files, self.number = files, number


def _grey_or_broken(path):
  try:
    return is_grey(path)
  except BrokenPicture:
    return True


def _decode(paths, shape):
  """All pictures, and {number: why} of those that are broken."""
  images, broken = np.zeros((len(paths), *shape), np.uint8), {}

  def fill(chunk):
    for i in range(len(paths))[chunk]:
      try:
        images[i] = read_picture(paths[i], size=shape[0], channels=shape[-1])
      except BrokenPicture as error:
        broken[i] = str(error)

  in_threads(fill, len(paths))()
  return images, broken


def _check(paths):
  """{number: why} of the files that do not begin like a picture."""
  broken = {}

  def look(first):
    for i in range(first, min(first + 256, len(paths))):
      try:
        check_beginning(paths[i])
      except BrokenPicture as error:
        broken[i] = str(error)

  with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
    list(pool.map(look, range(0, len(paths), 256)))
  return broken


def _resized(images, size):
  if images.shape[1:3] == (size, size):
    return images
  result = np.empty((len(images), size, size, images.shape[-1]), np.uint8)

  def fill(chunk):
    for i in range(len(images))[chunk]:
      result[i] = resized(Image.fromarray(images[i].squeeze(-1) if images.shape[-1] == 1 else images[i]), size)

  in_threads(fill, len(images))()
  return result


class Files:
  """Reads files by number; a broken one is an error or, if so wished, the next of its class that can be read."""

  def __init__(self, paths, labels, shape, skip_broken):
    self._paths, self._labels, self._shape, self._skip_broken = paths, labels, shape, skip_broken
    self._instead, self._lock = {}, threading.Lock()

  def __call__(self, numbers):
    return np.stack([self._picture(number) for number in numbers.tolist()])

  def _read(self, number):
    return read_picture(self._paths[number], size=self._shape[0], channels=self._shape[-1])

  def _picture(self, number):
    try:
      return self._read(self._instead.get(number, number))
    except BrokenPicture as error:
      path = self._paths[number]
      if not self._skip_broken:
        raise ValueError(
          f"the picture {path!r} cannot be read ({error}); "
          "pass skip_broken=True (--skip-broken) to use another of its class"
        ) from None
      with self._lock:
        return self._another(number, error)

  def _another(self, number, why):
    of_class = np.flatnonzero(self._labels == self._labels[number]).tolist()
    at = of_class.index(number)
    for other in of_class[at + 1 :] + of_class[:at]:
      try:
        picture = self._read(other)
      except BrokenPicture:
        continue
      if number not in self._instead:
        self._instead[number] = other
        warnings.warn(
          f"the picture {self._paths[number]!r} cannot be read ({why}): {self._paths[other]!r} takes its place",
          stacklevel=2,
        )
      return picture
    raise ValueError(f"no picture of the class of {self._paths[number]!r} can be read")
