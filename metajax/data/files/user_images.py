"""User-supplied images as an `ImageDataset`: loaded immediately if they fit in memory, otherwise decoded on access."""

import warnings

import numpy as np
from PIL import Image

from metajax.data.class_split import BY_DEFAULT, ClassSplit
from metajax.data.files.csv import read_csv
from metajax.data.files.folder import read_folder
from metajax.data.files.image_file import UnreadableImage, is_gray, read_image, resized
from metajax.data.files.lazy_images import LazyImages, Originals, fits_in_memory, in_threads
from metajax.data.files.npz import read_npz
from metajax.data.files.opening import TO_SKIP
from metajax.data.files.preprocessing import preprocess
from metajax.data.files.table import Table
from metajax.data.files.verification import Files, unreadable_beginnings, unreadable_files
from metajax.data.source import ImageDataset
from metajax.data.splits import PARTS, check_split, choose
from metajax.types import Preprocessing

FILES_IN_MEMORY = 20_000  # decoded at the start, in 3 (28 x 28) to 20 seconds (photographs); larger sets stay on disk
LOOKED_AT = 4096  # number of evenly spaced files that decide whether a set is gray


def read_table(path: str) -> Table:
  """The `Table` of user-supplied images.

  The path is a folder `class/*.png` or `alphabet/character/*.png`; a `.csv` file with the columns path and label, and
  optionally split and group, each image once; or a `.npz` file with images and labels (see `metajax.data.files.npz`),
  which is always read completely.

  Raises:
    FileNotFoundError, PermissionError, NotADirectoryError: if a file or folder cannot be read.
    ValueError: if its contents are malformed.
  """
  return (read_csv if path.endswith(".csv") else read_npz if path.endswith(".npz") else read_folder)(path)


def source_of(
  table: Table,
  split: str,
  *,
  size: int,
  seed: int,
  skip_unreadable: bool,
  least: int = 1,
  preprocessing: Preprocessing | None = None,
  class_split: ClassSplit = BY_DEFAULT,
  originals: bool = False,
) -> ImageDataset:
  """The `ImageDataset` of a part of a `Table`.

  Classes are distributed as for a TFDS set, from the splits in the data ("train", "test" and optionally "validation",
  as folders or in the column) or from all images; "official/all" is everything. Ink is not inverted. Images are gray if
  all (of 4,096 checked) are gray, and lie on white. Files are PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000, AVIF or
  TGA, of at most 2^28 pixels (16,384 x 16,384); a JPEG may have up to 64 times as many, as it is decoded at a reduced
  size, at least four times `size`. Sets of more than 1 GiB, decoded, or of 20,000 files are decoded on access.

  Args:
    table: the table of the images.
    split, size, seed, skip_unreadable, preprocessing, originals: as for `load`.
    least, class_split: smallest number of images of a class that is kept; custom distribution of the classes.

  Raises:
    FileNotFoundError, PermissionError: if a file cannot be read.
    ValueError: if images, classes or splits are malformed, or images are broken and `skip_unreadable` is False.
  """
  check_split(table.name, split, table.own)
  rows, _, small = choose(table.name, split, table.labels, table.own, seed, least, class_split, table.classes)
  _tell_if_dealt_anew(table, split, class_split)
  left_out = {"small_classes": tuple(table.classes[c] for c in small)}
  if isinstance(table.images, np.ndarray):
    _check_no_originals(table, originals)
    return _source(table, rows, _resized(table.images[rows], size, preprocessing))._replace(**left_out)
  spread = np.unique(np.linspace(0, len(table.images) - 1, LOOKED_AT).astype(int))
  channels = 1 if preprocessing is None and all(_gray_or_unreadable(table.images[row]) for row in spread) else 3
  shape, paths = (size, size, channels), [table.images[row] for row in rows]
  in_memory = not originals and len(rows) <= FILES_IN_MEMORY and fits_in_memory(len(rows), shape)
  if in_memory:
    images, unreadable = _decode(paths, shape, preprocessing)
  else:
    unreadable = (
      unreadable_files(table.name, paths, shape, preprocessing) if skip_unreadable else unreadable_beginnings(paths)
    )
  if unreadable and not skip_unreadable:
    said = [f"{table.places[rows[i]]} ({unreadable[i]})" for i in sorted(unreadable)]
    raise UnreadableImages(said, len(table.images), table.name)
  good = np.array([i for i in range(len(rows)) if i not in unreadable], np.int64)
  if not len(good):
    raise ValueError(f"split {split!r} of {table.name} holds no image that can be read")
  rows, missing = rows[good], tuple(table.places[rows[i]] for i in sorted(unreadable))
  if in_memory:
    images = images[good] if unreadable else images
  else:
    advice = "it could be when the set was loaded" if skip_unreadable else TO_SKIP
    files = Files([paths[i] for i in good], shape, advice, preprocessing)
    images = LazyImages(files, shape, np.arange(len(rows)), originals=Originals(files.originals))
  return _source(table, rows, images, missing)._replace(**left_out)


def _check_no_originals(table, originals):
  if originals:
    raise ValueError(f"expected files of images, of which crops are decoded, got the arrays of {table.name}")


def _tell_if_dealt_anew(table, split, class_split):
  if class_split.given and any(part in table.own for part in PARTS):
    warnings.warn(f"the splits in {table.name} are ignored, with {class_split.given}", stacklevel=4)
    return
  both = [table.labels[table.own[part]] for part in ("train", "test") if part in table.own]
  shared = np.intersect1d(*both) if len(both) == 2 else ()
  if len(shared) and not split.startswith("official/"):
    warnings.warn(
      f"train and test of {table.name} share {len(shared)} classes: the classes of all images are redistributed",
      stacklevel=4,
    )


def _source(table, rows, images, unreadable=()):
  present, labels = np.unique(table.labels[rows], return_inverse=True)
  classes = tuple(table.classes[c] for c in present)
  return ImageDataset(
    images=images,
    labels=labels.astype(np.int32),
    classes=classes,
    superclasses=tuple(table.superclasses[c] for c in present),
    captions=tuple((name,) for name in classes),
    styles=("",) * len(rows),
    unreadable=unreadable,
  )


class UnreadableImages(ValueError):
  """User-supplied images cannot be read.

  Attributes:
    files: name of each unreadable image, with the reason.
    number: number of all images, in all parts.
  """

  def __init__(self, files: list[str], number: int, name: str):
    more = f" and {len(files) - 5} more" if len(files) > 5 else ""
    super().__init__(
      f"{len(files)} of {number} images of {name} cannot be read: {', '.join(files[:5])}{more}; "
      "pass skip_unreadable=True (--skip-unreadable) to leave them out"
    )
    self.files, self.number = files, number


def _gray_or_unreadable(path):
  try:
    return is_gray(path)
  except UnreadableImage:
    return True


def _decode(paths, shape, preprocessing):
  """All images, and `{number: reason}` of the broken ones."""
  images, unreadable = np.zeros((len(paths), *shape), np.uint8), {}

  def fill(chunk):
    for i in range(len(paths))[chunk]:
      try:
        images[i] = read_image(paths[i], size=shape[0], channels=shape[-1], preprocessing=preprocessing)
      except UnreadableImage as error:
        unreadable[i] = str(error)

  in_threads(fill, len(paths))()
  return images, unreadable


def _resized(images, size, preprocessing):
  if preprocessing is None and images.shape[1:3] == (size, size):
    return images
  result = np.empty((len(images), size, size, images.shape[-1] if preprocessing is None else 3), np.uint8)

  def fill(chunk):
    for i in range(len(images))[chunk]:
      image = Image.fromarray(images[i].squeeze(-1) if images.shape[-1] == 1 else images[i])
      result[i] = resized(image, size) if preprocessing is None else preprocess(image, preprocessing)

  in_threads(fill, len(images))()
  return result
