"""Loads a data set by its name: the built-in glyphs, Omniglot, TFDS classification sets, one's own images."""

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

  - "glyphs", drawn on the spot: see `metajax.data.builtin.glyphs`.
  - "omniglot": "lake/train", "vinyals/test", "finn/validation", ...: see `metajax.data.builtin.omniglot`.
  - any TFDS image classification set, "cifar10" or "name/config": see `metajax.data.tfds.classification`.
  - one's own images, in a folder, a `.csv` file or a `.npz` file: see `metajax.data.files.user_images`.

  Of sets that do not name parts without a class in common, the classes are dealt out by `seed`; "official/train" is a
  split as the set has it, "official/all" all of one's own. What is large stays in its files and is decoded when asked
  for.

  Args:
    name: the data set; a path if it begins with "/", "./", "../" or "~", ends in ".csv" or ".npz", or is the name of a
      folder and of no prepared data set.
    split: which part of it.
    size: the side of an image in pixels; images are squashed to it whatever their shape.
    preprocessing: of a published network, such as `load_clip(...).preprocessing`: images are in RGB, of its size and
      made ready as its publisher had it, in place of `size`. Of characters, which have no publisher, there is none.
    data_dir: a folder of prepared TFDS data; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets. What is prepared
      is read without the network.
    download: whether TFDS may download and prepare what is not there.
    seed: of the choice of classes, and of the glyphs' distortions: the same for every part, or they share classes.
    rotations: whether every class gives four, one for each quarter turn: `with_rotations`.
    skip_unreadable: whether files of one's own, and records of a TFDS set, whose images cannot be read are left out,
      and named in the source's `unreadable`. Images that are decoded when asked for are all read once at the start,
      which the cache remembers until their files change: a batch stays a function of its step, and no image stands in
      for another. Without it, what only begins like an image is found when it is drawn, and is an error.
    min_images_per_class: classes with fewer images are left out, before classes are dealt out, and named in the
      source's `small_classes`.

  Returns:
    an `ImageDataset` of images `[n, size, size, channels]`, its classes numbered from 0.

  Raises:
    FileNotFoundError: the data are not there, and `download` is False.
    ConnectionError: the data are not there, and the network neither.
    PermissionError, NotADirectoryError: a folder or file of one's own cannot be read.
    ValueError: an argument is out of range, an unknown data set or split, a set that is not one of classified images,
      too few classes, or images that cannot be read.
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
  """The `ImageDataset` of a set of whatever kind; `own` is how images of one's own are to be loaded."""
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
  """Refuses how a set is to be loaded: what all sets have in common. Gives the side of its images.

  Raises:
    ValueError: quoting what is out of range.
    TypeError: if `preprocessing` is no `Preprocessing`.
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
  """What is left where broken images, too, are left out."""
  counts = np.bincount(source.labels, minlength=len(source.classes))
  if counts.min() >= least:
    return source
  if counts.max() < least:
    given = f"{counts.max()} at most (min_images_per_class)"
    raise ValueError(f"expected a class of at least {least} images, got {given}")
  small = tuple(source.classes[c] for c in np.flatnonzero(counts < least))
  return select_classes(source, np.flatnonzero(counts >= least))._replace(small_classes=source.small_classes + small)


def is_own(name: str, data_dir: AnyPath | None, download: bool) -> bool:
  """Whether `name` is a path; a folder of the name of a prepared or wanted data set is not meant."""
  return is_path(name) or (not download and os.path.isdir(name) and not is_prepared(name, data_dir))


def _size(name, split, size, seed, data_dir, preprocessing) -> int:
  """`check_how`, of a set of this name."""
  if preprocessing is not None and name in ("glyphs", "omniglot"):
    raise ValueError(f"expected no preprocessing of {name}, which are drawn for a size, got {preprocessing}")
  return check_how(split, size, seed, data_dir, of_glyphs=name == "glyphs", preprocessing=preprocessing)
