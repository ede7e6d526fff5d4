"""Loads a data set by name: the built-in glyphs, Omniglot, TFDS classification sets, user-supplied images."""

import os

import numpy as np

from metajax import checks
from metajax.data.builtin.glyphs import glyphs
from metajax.data.builtin.omniglot import omniglot
from metajax.data.files.opening import checked_name, is_path
from metajax.data.files.preprocessing import check_preprocessing
from metajax.data.files.user_images import read_table, source_of
from metajax.data.source import MOST_PIXELS, ImageDataset, select_classes, with_rotations
from metajax.data.tfds.builder import is_prepared
from metajax.data.tfds.classification import classification_set
from metajax.paths import AnyPath
from metajax.types import Preprocessing


def load(
  name: AnyPath,
  split: str = "train",
  *,
  size: int = 28,
  preprocessing: Preprocessing | None = None,
  data_dir: AnyPath | None = None,
  download: bool = False,
  seed: int = 0,
  rotations: bool = False,
  skip_unreadable: bool = False,
  min_images_per_class: int = 1,
) -> ImageDataset:
  """Loads one part of a data set; the parts "train", "validation" and "test" share no class.

  - "glyphs", drawn on the fly: see `metajax.data.builtin.glyphs`.
  - "omniglot", split "lake/train", "vinyals/test", "finn/validation", ...: see `metajax.data.builtin.omniglot`.
  - any TFDS image classification set, "cifar10" or "name/config": see `metajax.data.tfds.classification`.
  - user-supplied images, in a folder, a `.csv` file or a `.npz` file: see `metajax.data.files.user_images`.

  If a set has no class-disjoint parts, its classes are distributed by `seed`. "official/train" is the set's official
  split, "official/all" all user-supplied images. Large sets stay on disk and are decoded on access.

  Args:
    name: name of the data set, or a path: it begins with "/", "./", "../" or "~", ends in ".csv" or ".npz", or names a
      folder but no prepared data set.
    split: part of the data set.
    size: side of the images in pixels; images are squashed to a square.
    preprocessing: preprocessing of a published network, e.g. `load_clip(...).preprocessing`: images are RGB, of its
      size and processed as published, and `size` is ignored. Not for glyphs and Omniglot.
    data_dir: folder of prepared TFDS data; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets. Prepared data are
      read without network access.
    download: whether TFDS may download and prepare missing data.
    seed: seed of the distribution of classes, and of the glyphs' distortions; must be the same for every part, or parts
      share classes.
    rotations: whether every class yields four, one per quarter turn: `with_rotations`.
    skip_unreadable: whether unreadable user-supplied files and TFDS records are skipped and listed in the source's
      `unreadable`. Lazily decoded images are then all read once at the start (cached until their files change), so
      that a batch stays a function of its step. If False, a file that only begins like an image raises once drawn.
    min_images_per_class: classes with fewer images are dropped before classes are distributed, and listed in the
      source's `small_classes`.

  Returns:
    An `ImageDataset` of images `[n, size, size, channels]`, its classes numbered from 0.

  Raises:
    FileNotFoundError: if the data are missing and `download` is False.
    ConnectionError: if the data are missing and so is the network.
    PermissionError, NotADirectoryError: if a user-supplied folder or file cannot be read.
    ValueError: if an argument is out of range, the data set or split is unknown, the set is not one of classified
      images, or it has too few classes or unreadable images.
  """
  name = checked_name(name)
  checks.count("min_images_per_class", min_images_per_class)
  size = _size(name, split, size, seed, data_dir, preprocessing)
  checks.flags(download=download, rotations=rotations, skip_unreadable=skip_unreadable)
  own = {"size": size, "seed": seed, "skip_unreadable": skip_unreadable, "preprocessing": preprocessing}
  source = _load(name, split, data_dir, download, own | {"least": min_images_per_class})
  source = _without_small_classes(source, min_images_per_class)
  return with_rotations(source) if rotations else source


def _load(name, split, data_dir, download, own):
  """The `ImageDataset` of a set of any kind; `own` holds the options of user-supplied images."""
  if name == "glyphs":
    return glyphs(split, size=own["size"], seed=own["seed"])
  prepared = {"data_dir": data_dir, "download": download}
  if name == "omniglot":
    return omniglot(split, **prepared, **{key: own[key] for key in ("size", "seed", "skip_unreadable")})
  if is_own(name, **prepared):
    return source_of(read_table(name), split, **own)
  return classification_set(name, split, **prepared, **own)


def check_how(
  split: str,
  size: int,
  seed: int,
  data_dir: AnyPath | None,
  of_glyphs: bool = False,
  preprocessing: Preprocessing | None = None,
) -> int:
  """Checks the loading options that all sets have in common, and returns the side of the images.

  Raises:
    ValueError: if an option is out of range, quoting it.
    TypeError: if `preprocessing` is not a `Preprocessing`.
  """
  if preprocessing is not None:
    check_preprocessing(preprocessing)
    size = preprocessing.pixels
  checks.text("split", split)
  checks.count("size", size, 1, MOST_PIXELS)
  checks.count("seed", seed, 0, 2**64 - 1 if of_glyphs else 2**32 - 1)
  if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
    raise ValueError(f"expected data_dir to be a folder, got {checks.describe(data_dir)}")
  return size


def _without_small_classes(source, least):
  """Drops classes that have too few images once broken images are dropped."""
  counts = np.bincount(source.labels, minlength=len(source.classes))
  if counts.min() >= least:
    return source
  if counts.max() < least:
    given = f"{counts.max()} at most (min_images_per_class)"
    raise ValueError(f"expected a class of at least {least} images, got {given}")
  small = tuple(source.classes[c] for c in np.flatnonzero(counts < least))
  return select_classes(source, np.flatnonzero(counts >= least))._replace(small_classes=source.small_classes + small)


def is_own(name: str, data_dir: AnyPath | None, download: bool) -> bool:
  """Whether `name` is a path; a data set that is prepared or to be downloaded takes precedence over a folder."""
  return is_path(name) or (not download and os.path.isdir(name) and not is_prepared(name, data_dir))


def _size(name, split, size, seed, data_dir, preprocessing) -> int:
  """`check_how` for the set of this name."""
  if preprocessing is not None and name in ("glyphs", "omniglot"):
    raise ValueError(f"expected no preprocessing for {name}, which is drawn at a size, got {preprocessing}")
  return check_how(split, size, seed, data_dir, of_glyphs=name == "glyphs", preprocessing=preprocessing)
