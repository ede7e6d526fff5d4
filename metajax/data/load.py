"""Loads a data set by name: the built-in glyphs, Omniglot, TFDS classification sets, user-supplied images."""

import os
from collections.abc import Sequence

import numpy as np

from metajax import checks
from metajax.data.builtin.glyphs import glyphs
from metajax.data.builtin.omniglot import omniglot
from metajax.data.class_split import check_class_split
from metajax.data.files.opening import checked_name, is_path
from metajax.data.files.preprocessing import check_preprocessing
from metajax.data.files.user_images import read_table, source_of
from metajax.data.shards.labeled import labeled_shards
from metajax.data.shards.patterns import is_shards
from metajax.data.source import MOST_PIXELS, ImageDataset, select_classes, with_rotations
from metajax.data.tfds.builder import is_prepared
from metajax.data.tfds.classification import classification_set
from metajax.paths import AnyPath
from metajax.types import Preprocessing

BUILT_IN = ("glyphs", "omniglot")


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
  split_classes: Sequence[float] = (),
  test_classes: Sequence[str] = (),
  train_on_all: bool = False,
  originals: bool = False,
) -> ImageDataset:
  """Loads one part of a data set; the parts "train", "validation" and "test" share no class.

  - "glyphs", drawn on the fly: see `metajax.data.builtin.glyphs`.
  - "omniglot", split "lake/train", "vinyals/test", "finn/validation", ...: see `metajax.data.builtin.omniglot`.
  - TFDS image classification sets, "cifar10" or "name/config": see `metajax.data.tfds.classification`.
  - user-supplied images, in a folder, a `.csv` file or a `.npz` file: see `metajax.data.files.user_images`.
  - shards, `shards/{00000..01023}.tar`, `shards/*.tfrecord` or their folder: see `metajax.data.shards.labeled`.

  Without class-disjoint parts, classes are distributed by `seed`. "official/train" is the set's official split,
  "official/all" all user-supplied images. Large sets stay on disk and are decoded on access.

  Args:
    name: name of the data set, or a path: it begins with "/", "./", "../" or "~", ends in ".csv", ".npz" or as shards
      do, or names a folder but no prepared data set.
    split: part of the data set.
    size: side of the images in pixels; images are squashed to a square.
    preprocessing: as of a published network, `load_clip(...).preprocessing`: images are RGB and of its size.
    data_dir: folder of prepared TFDS data, read without network; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    download: whether TFDS may download and prepare missing data.
    seed: seed of the distribution, and of the glyphs' distortions; must be the same for every part.
    rotations: whether every class yields four, one per quarter turn.
    skip_unreadable: whether unreadable images are left out, and listed in `unreadable`, after one pass over all.
    min_images_per_class: smaller classes are dropped before the distribution, and listed in `small_classes`.
    split_classes: shares of the classes for the parts, such as (0.6, 0.2, 0.2), in place of official splits; like the
      next two, of which at most one may be given.
    test_classes: names of the test classes; a fifth of the others, at least two, serves for validation.
    originals: whether images stay in their files, however few, for `train_batches(..., crop=RandomCrop(...))`.
    train_on_all: whether all classes are in every part, with a quarter of their images in "validation" and in "test".

  Returns:
    An `ImageDataset` of images `[n, size, size, channels]`, its classes numbered from 0.

  Raises:
    OSError: if the data are missing or cannot be read, or a download has no network.
    ValueError: if an argument is out of range, or the set or split is unknown, malformed or too small.
  """
  flags = {"skip_unreadable": skip_unreadable, "originals": originals}
  checks.flags(download=download, rotations=rotations, train_on_all=train_on_all, **flags)
  name, custom = checked_name(name, buckets=True), check_class_split(split, split_classes, test_classes, train_on_all)
  size = _size(name, split, size, seed, data_dir, preprocessing, min_images_per_class)
  own = {"size": size, "seed": seed, "preprocessing": preprocessing, **flags}
  source = _load(name, split, data_dir, download, own | {"least": min_images_per_class, "class_split": custom})
  return with_rotations(source) if rotations else source


def _load(name, split, data_dir, download, own):
  """The `ImageDataset` of a set of any kind; `own` holds the options of user-supplied images."""
  if name in BUILT_IN and own["class_split"].given:
    raise ValueError(f"expected no {own['class_split'].given} for {name}, whose parts are fixed")
  if name in BUILT_IN and own["originals"]:
    raise ValueError(f"expected files of images, of which crops are decoded, got {name}, which is drawn")
  if name == "glyphs":
    source = glyphs(split, size=own["size"], seed=own["seed"])
  elif name == "omniglot":
    of_omniglot = {key: own[key] for key in ("size", "seed", "skip_unreadable")}
    source = omniglot(split, data_dir=data_dir, download=download, **of_omniglot)
  elif is_shards(name):
    own.pop("originals")  # shards always stay on the disk
    source = labeled_shards(name, split, **own)
  elif is_own(name, data_dir, download):
    source = source_of(read_table(name), split, **own)
  else:
    source = classification_set(name, split, data_dir=data_dir, download=download, **own)
  # Where the images of a class are in several parts, all of them together have been counted.
  return _without_small_classes(source, 1 if own["class_split"].all_classes else own["least"])


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
  return is_path(name) or is_shards(name) or (not download and os.path.isdir(name) and not is_prepared(name, data_dir))


def _size(name, split, size, seed, data_dir, preprocessing, least) -> int:
  """`check_how` for the set of this name."""
  checks.count("min_images_per_class", least)
  if preprocessing is not None and name in BUILT_IN:
    raise ValueError(f"expected no preprocessing for {name}, which is drawn at a size, got {preprocessing}")
  return check_how(split, size, seed, data_dir, of_glyphs=name == "glyphs", preprocessing=preprocessing)
