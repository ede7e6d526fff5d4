"""Labelled pictures at random access: the built-in glyphs, Omniglot, TFDS classification sets, one's own pictures."""

import os
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.data.files import checked_name
from metajax.data.pictures import Pictures, take
from metajax.data.preprocess import check_preprocessing

MOST_PIXELS = 2**14  # of a side


class Source(NamedTuple):
  """Labelled pictures at random access.

  Attributes:
    images: uint8 `[n, height, width, channels]`, 0 to 255; the characters of glyphs and Omniglot have ink at 255. An
      array, or `Pictures` that are decoded when asked for.
    labels: int32 `[n]`, an index into `classes`.
    classes: the name of each class, unique.
    groups: the alphabet, script or family of each class ("" where there is none).
    captions: for each class the texts that describe it, at least one.
    styles: for each picture who drew it or in which typeface family ("" where unknown), `[n]`.
    broken: the files that could not be read and were left out.
    small_classes: the classes that were left out because they have too few pictures.
  """

  images: np.ndarray | Pictures
  labels: np.ndarray
  classes: tuple[str, ...]
  groups: tuple[str, ...]
  captions: tuple[tuple[str, ...], ...]
  styles: tuple[str, ...]
  broken: tuple[str, ...] = ()
  small_classes: tuple[str, ...] = ()


def load(
  name,
  split="train",
  *,
  size=28,
  preprocessing=None,
  data_dir=None,
  download=False,
  seed=0,
  rotations=False,
  skip_broken=False,
  min_images_per_class=1,
):
  """Loads one part of a data set; the parts "train", "validation" and "test" share no class.

  - "glyphs", drawn on the spot: see `metajax.data.glyphs`.
  - "omniglot": "lake/train", "vinyals/test", "finn/validation", ...: see `metajax.data.omniglot`.
  - any TFDS image classification set, "cifar10" or "name/config". "train", "validation" and "test" are its own splits
    where no class is in two of them; then a missing validation split is made of a tenth of the training classes, but
    at least 5, which "train" loses. Otherwise the classes of all its pictures are dealt out by `seed`: a fifth, but
    at least 2, to "validation", as many to "test", the rest to "train". "own/train" or "own/test" is a split as TFDS
    has it, for training and probing on the same classes. Pictures without a label (-1) are left out.
  - one's own pictures: a folder `class/*.png` or `alphabet/character/*.png`; a `.csv` file with the columns path and
    label, and optionally split and group, each picture once; or a `.npz` file with images and labels (see
    `metajax.data.arrays`). Classes are dealt out as above, from the splits that the data name ("train", "test" and
    perhaps "validation", as folders or in the column) or from all pictures; "own/train" is such a split, "own/all" is
    everything. Pictures keep their ink as it is, are grey if all are (of 4,096 looked at), and lie on white. Files are
    PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000, AVIF or TGA, of at most 2^28 pixels (16,384 x 16,384); a JPEG may
    have up to 64 times as many, as it is decoded at a fraction of its size, not below four times `size`.

  Pictures that take more than 1 GiB, decoded, or more than 20,000 files of one's own, stay in their files and are
  decoded when asked for: the same pixels, in the same order, which is that of the TFDS set's record files (TFRecord or
  ArrayRecord), of the table's lines, or of the folder's paths. An archive is always read whole.

  Args:
    name: the data set; a path if it begins with "/", "./", "../" or "~", ends in ".csv" or ".npz", or is the name of a
      folder and of no prepared data set.
    split: which part of it.
    size: the side of a picture in pixels; pictures are squashed to it whatever their shape.
    preprocessing: of a published network, such as `load_clip(...).preprocessing`: pictures are in RGB, of its size and
      made ready as its publisher had it, in place of `size`. Of characters, which have no publisher, there is none.
    data_dir: a folder of prepared TFDS data; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets. What is prepared
      is read without the network.
    download: whether TFDS may download and prepare what is not there.
    seed: of the choice of classes, and of the glyphs' distortions: the same for every part, or they share classes.
    rotations: whether every class gives four, one for each quarter turn: `with_rotations`.
    skip_broken: whether files of one's own, and records of a TFDS set, whose pictures cannot be read are left out, and
      named in the source's `broken`. Pictures that are decoded when asked for are all read once at the start, which the
      cache remembers until their files change: a batch stays a function of its step, and no picture stands in for
      another. Without it, what only begins like a picture is found when it is drawn, and is an error.
    min_images_per_class: classes with fewer pictures are left out, before classes are dealt out, and named in the
      source's `small_classes`.

  Returns:
    a `Source` of pictures `[n, size, size, channels]`, its classes numbered from 0.

  Raises:
    FileNotFoundError: the data are not there, and `download` is False.
    ConnectionError: the data are not there, and the network neither.
    PermissionError, NotADirectoryError: a folder or file of one's own cannot be read.
    ValueError: an argument is out of range, an unknown data set or split, a set that is not one of classified pictures,
      too few classes, or pictures that cannot be read.
  """
  name = checked_name(name)
  checks.count("min_images_per_class", min_images_per_class)
  if preprocessing is not None and name in ("glyphs", "omniglot"):
    raise ValueError(f"expected no preprocessing of {name}, which are drawn for a size, got {preprocessing}")
  size = check_how(split, size, seed, data_dir, of_glyphs=name == "glyphs", preprocessing=preprocessing)
  for flag, value in (("download", download), ("rotations", rotations), ("skip_broken", skip_broken)):
    checks.flag(flag, value)
  tfds = {"size": size, "data_dir": data_dir, "download": download, "seed": seed, "skip_broken": skip_broken}
  if name == "glyphs":
    from metajax.data.glyphs import glyphs

    source = glyphs(split, size=size, seed=seed)
  elif name == "omniglot":
    from metajax.data.omniglot import omniglot

    source = omniglot(split, **tfds)
  elif _is_own(name, data_dir, download):
    from metajax.data.own import load_own

    how = {"seed": seed, "skip_broken": skip_broken, "least": min_images_per_class, "preprocessing": preprocessing}
    source = load_own(name, split, size=size, **how)
  else:
    from metajax.data.records import classification_set

    source = classification_set(name, split, **tfds, least=min_images_per_class, preprocessing=preprocessing)
  source = _without_small_classes(source, min_images_per_class)
  return with_rotations(source) if rotations else source


def check_how(split, size, seed, data_dir, of_glyphs=False, preprocessing=None) -> int:
  """Refuses how a set is to be loaded: what all sets have in common. Gives the side of its pictures.

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
  """What is left where broken pictures, too, are left out."""
  counts = np.bincount(source.labels, minlength=len(source.classes))
  if counts.min() >= least:
    return source
  if counts.max() < least:
    given = f"{counts.max()} at most (min_images_per_class)"
    raise ValueError(f"expected a class of at least {least} pictures, got {given}")
  small = tuple(source.classes[c] for c in np.flatnonzero(counts < least))
  return select_classes(source, np.flatnonzero(counts >= least))._replace(small_classes=source.small_classes + small)


def _is_own(name, data_dir, download):
  """Whether `name` is a path; a folder of the name of a prepared or wanted data set is not meant."""
  from metajax.data.images import is_prepared
  from metajax.data.own import is_path

  return is_path(name) or (not download and os.path.isdir(name) and not is_prepared(name, data_dir))


def from_arrays(images, labels, *, classes=None, groups=None, captions=None, styles=None):
  """A `Source` from pictures and the indices of their classes.

  Args:
    images: uint8 `[n, height, width, channels]`, 0 to 255: an array or `Pictures`.
    labels: integers `[n]` from 0.
    classes: unique names, by default "0", "1", ... up to the largest label.
    groups, captions, styles: as in `Source`; by default "", the name of the class, and "".

  Raises:
    ValueError: the shapes or lengths do not match, a label is out of range, or a class has no picture.
  """
  images = images if isinstance(images, Pictures) else np.asarray(images)
  labels = np.asarray(labels)
  for name, values in (("classes", classes), ("groups", groups), ("styles", styles)):
    if values is not None and (isinstance(values, str) or not all(isinstance(value, str) for value in values)):
      raise ValueError(f"expected {name} to be texts, one for each, got {values!r}")
  captions = captions if captions is None else tuple(captions)
  if captions is not None and any(isinstance(texts, str) for texts in captions):
    raise ValueError(f"expected a tuple of texts as the captions of each class, got {captions[0]!r}")
  if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
    raise ValueError(f"expected images uint8 [n, height, width, channels], got {images.dtype} {list(images.shape)}")
  if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
    raise ValueError(f"expected {len(images)} integer labels, got {labels.dtype} {list(labels.shape)}")
  classes = tuple(str(label) for label in range(labels.max() + 1)) if classes is None else tuple(classes)
  groups = ("",) * len(classes) if groups is None else tuple(groups)
  captions = tuple((name,) for name in classes) if captions is None else tuple(tuple(texts) for texts in captions)
  styles = ("",) * len(labels) if styles is None else tuple(styles)
  if not len(classes) == len(set(classes)) == len(groups) == len(captions) or len(styles) != len(labels):
    raise ValueError(
      f"expected unique classes with a group and captions each, and {len(labels)} styles, got {len(classes)} classes "
      f"({len(set(classes))} unique), {len(groups)} groups, {len(captions)} captions, {len(styles)} styles"
    )
  if not all(captions):
    raise ValueError(f"expected at least one caption a class, got none for {classes[captions.index(())]!r}")
  if labels.min() < 0 or labels.max() >= len(classes):
    raise ValueError(f"expected labels from 0 to {len(classes) - 1}, got {labels.min()} to {labels.max()}")
  counts = np.bincount(labels, minlength=len(classes))
  if not counts.all():
    raise ValueError(f"expected a picture of every class, got none of {classes[np.argmin(counts)]!r}")
  return Source(images, labels.astype(np.int32), classes, groups, captions, styles)


def check_source(source):
  """Refuses what is no source.

  Raises:
    ValueError: with what it is.
  """
  if not all(hasattr(source, name) for name in ("images", "labels", "classes", "groups", "captions", "styles")):
    raise ValueError(f"expected a Source, as load or from_arrays gives, got {checks.describe(source)}")


def select_classes(source, indices):
  """The pictures of some classes, in their order; the classes are numbered anew, in the order of `indices`.

  Raises:
    ValueError: `indices` are not unique indices of the source's classes.
  """
  check_source(source)
  indices = np.asarray(indices)
  if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
    given = checks.describe(indices)
    raise ValueError(f"expected some unique indices from 0 to {len(source.classes) - 1}, got {given}")
  chosen, known = set(indices.tolist()), set(range(len(source.classes)))
  if not chosen or len(chosen) < len(indices) or not chosen <= known:
    raise ValueError(f"expected some unique indices from 0 to {len(source.classes) - 1}, got {indices.tolist()}")
  labels = np.full(len(source.classes), -1, np.int32)
  labels[indices] = np.arange(len(indices))
  rows = np.flatnonzero(labels[source.labels] >= 0)
  return source._replace(
    images=take(source.images, rows),
    labels=labels[source.labels[rows]],
    classes=tuple(source.classes[index] for index in indices),
    groups=tuple(source.groups[index] for index in indices),
    captions=tuple(source.captions[index] for index in indices),
    styles=tuple(source.styles[row] for row in rows),
  )


def with_rotations(source):
  """The source and its pictures turned by 90, 180 and 270 degrees (counterclockwise) as classes of their own, four
  times as many: class `c` turned by 90 `k` degrees is class `c + k * len(source.classes)`. A turned alphabet is one of
  its own.

  Raises:
    ValueError: the pictures are not square.
  """
  check_source(source)
  height, width = source.images.shape[1:3]
  if height != width:
    raise ValueError(f"only square pictures keep their shape when turned, got {height} by {width}")
  suffixes = ("", *(f" rotated {degrees}" for degrees in (90, 180, 270)))
  return source._replace(
    images=_quarter_turns(source.images),
    labels=np.concatenate([source.labels + turns * np.int32(len(source.classes)) for turns in range(4)]),
    classes=tuple(name + suffix for suffix in suffixes for name in source.classes),
    groups=tuple(group and group + suffix for suffix in suffixes for group in source.groups),
    captions=tuple(tuple(text + suffix for text in texts) for suffix in suffixes for texts in source.captions),
    styles=source.styles * 4,
  )


def _quarter_turns(images):
  if isinstance(images, Pictures):
    return images.with_quarter_turns()
  return np.concatenate([np.rot90(images, turns, axes=(1, 2)) for turns in range(4)])
