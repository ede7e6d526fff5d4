"""Labelled pictures at random access: the built-in glyphs, Omniglot's named splits, any TFDS classification set."""

from typing import NamedTuple

import numpy as np

PARTS = ("train", "validation", "test")


class Source(NamedTuple):
  """Labelled pictures in memory, at random access.

  Attributes:
    images: uint8 `[n, height, width, channels]`, 0 to 255; characters have ink at 255.
    labels: int32 `[n]`, an index into `classes`.
    classes: the name of each class, unique.
    groups: the alphabet, script or family of each class ("" where there is none).
    captions: for each class the texts that describe it, at least one.
    styles: for each picture who drew it or in which typeface family ("" where unknown), `[n]`.
  """

  images: np.ndarray
  labels: np.ndarray
  classes: tuple[str, ...]
  groups: tuple[str, ...]
  captions: tuple[tuple[str, ...], ...]
  styles: tuple[str, ...]


def load(name, split="train", *, size=28, data_dir=None, download=False, seed=0, rotations=False):
  """Loads one part of a data set into memory; the parts "train", "validation" and "test" share no class.

  - "glyphs", drawn on the spot: see `metajax.data.glyphs`.
  - "omniglot": "lake/train", "vinyals/test", "finn/validation", ...: see `metajax.data.omniglot`.
  - any TFDS image classification set, "cifar10" or "name/config". "train", "validation" and "test" are its own splits
    where no class is in two of them; then a missing validation split is made of a tenth of the training classes, but
    at least 5, which "train" loses. Otherwise the classes of all its pictures are dealt out by `seed`: a fifth, but
    at least 2, to "validation", as many to "test", the rest to "train". "own/train" or "own/test" is a split as TFDS
    has it, for training and probing on the same classes. Pictures without a label (-1) are left out.

  Args:
    name: the data set.
    split: which part of it.
    size: the side of a picture in pixels; pictures are resized to it whatever their shape.
    data_dir: a folder of prepared TFDS data; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets. What is prepared
      is read without the network.
    download: whether TFDS may download and prepare what is not there.
    seed: of the choice of classes, and of the glyphs' distortions: the same for every part, or they share classes.
    rotations: whether every class gives four, one for each quarter turn: `with_rotations`.

  Returns:
    a `Source` of pictures `[n, size, size, channels]`, its classes numbered from 0.

  Raises:
    FileNotFoundError: the data are not there, and `download` is False.
    ConnectionError: the data are not there, and the network neither.
    ValueError: an unknown data set or split, a set that is not one of classified pictures, or too few classes.
  """
  if name == "glyphs":
    from metajax.data.glyphs import glyphs

    source = glyphs(split, size=size, seed=seed)
  elif name == "omniglot":
    from metajax.data.omniglot import omniglot

    source = omniglot(split, size=size, data_dir=data_dir, download=download, seed=seed)
  else:
    source = _classification_set(name, split, size, data_dir, download, seed)
  return with_rotations(source) if rotations else source


def from_arrays(images, labels, *, classes=None, groups=None, captions=None, styles=None):
  """A `Source` from pictures and the indices of their classes.

  Args:
    images: uint8 `[n, height, width, channels]`, 0 to 255.
    labels: integers `[n]` from 0.
    classes: unique names, by default "0", "1", ... up to the largest label.
    groups, captions, styles: as in `Source`; by default "", the name of the class, and "".

  Raises:
    ValueError: the shapes or lengths do not match, a label is out of range, or a class has no picture.
  """
  images, labels = np.asarray(images), np.asarray(labels)
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


def select_classes(source, indices):
  """The pictures of some classes, in their order; the classes are numbered anew, in the order of `indices`.

  Raises:
    ValueError: `indices` are not unique indices of the source's classes.
  """
  indices = np.asarray(indices)
  chosen, known = set(indices.tolist()), set(range(len(source.classes)))
  if not chosen or len(chosen) < len(indices) or not chosen <= known:
    raise ValueError(f"expected some unique indices from 0 to {len(source.classes) - 1}, got {indices.tolist()}")
  labels = np.full(len(source.classes), -1, np.int32)
  labels[indices] = np.arange(len(indices))
  rows = np.flatnonzero(labels[source.labels] >= 0)
  return Source(
    images=source.images[rows],
    labels=labels[source.labels[rows]],
    classes=tuple(source.classes[index] for index in indices),
    groups=tuple(source.groups[index] for index in indices),
    captions=tuple(source.captions[index] for index in indices),
    styles=tuple(source.styles[row] for row in rows),
  )


def with_rotations(source):
  """The source and its pictures turned by 90, 180 and 270 degrees (counterclockwise) as classes of their own, four
  times as many: class `c` turned by 90 `k` degrees is class `c + k * len(source.classes)`.

  Raises:
    ValueError: the pictures are not square.
  """
  height, width = source.images.shape[1:3]
  if height != width:
    raise ValueError(f"only square pictures keep their shape when turned, got {height} by {width}")
  suffixes = ("", *(f" rotated {degrees}" for degrees in (90, 180, 270)))
  return Source(
    images=np.concatenate([np.rot90(source.images, turns, axes=(1, 2)) for turns in range(4)]),
    labels=np.concatenate([source.labels + turns * np.int32(len(source.classes)) for turns in range(4)]),
    classes=tuple(name + suffix for suffix in suffixes for name in source.classes),
    groups=source.groups * 4,
    captions=tuple(tuple(text + suffix for text in texts) for suffix in suffixes for texts in source.captions),
    styles=source.styles * 4,
  )


def _classification_set(name, split, size, data_dir, download, seed):
  from metajax.data.images import decode, image_and_label, prepared, read

  builder = prepared(name, data_dir, download)
  image, label = image_and_label(builder.info)
  features, own = builder.info.features, [f"own/{part}" for part in builder.info.splits]
  if split not in PARTS and split not in own:
    raise ValueError(f"unknown split {split!r} of {name}: expected one of {', '.join((*PARTS, *own))}")
  splits = [split.removeprefix("own/")] if split in own else [part for part in PARTS if f"own/{part}" in own]
  records = {part: read(builder, part, image, [label]) for part in splits}
  present = {part: np.unique(record[label][record[label] >= 0]) for part, record in records.items()}
  chosen = present[splits[0]] if split in own else _disjoint_classes(name, present, seed)[split]
  files, labels = (np.concatenate([record[key] for record in records.values()]) for key in (image, label))
  rows = np.flatnonzero(np.isin(labels, chosen))
  if not len(rows):
    raise ValueError(f"split {split!r} of {name} holds no labelled pictures")
  images = decode(files[rows], size=size, channels=features[image].shape[-1])
  return from_arrays(images, np.searchsorted(chosen, labels[rows]), classes=[features[label].names[c] for c in chosen])


def _disjoint_classes(name, present, seed):
  """The classes of "train", "validation" and "test", given those in each of the data set's own splits."""
  every, times = np.unique(np.concatenate([*present.values(), []]).astype(int), return_counts=True)
  shuffle = np.random.RandomState(seed).permutation  # frozen by NumPy, unlike its newer generators
  # A test split without labels (all -1) has no classes of its own.
  if all(len(present.get(part, ())) for part in ("train", "test")) and times.max() == 1:
    if "validation" in present:
      return present
    train = shuffle(present["train"])
    cut = max(5, len(train) // 10)
    if len(train) < 2 * cut:
      raise ValueError(f"{name} has {len(train)} training classes: expected 10 or more, to keep 5 for validation")
    return {"train": np.sort(train[cut:]), "validation": np.sort(train[:cut]), "test": present["test"]}
  if len(every) < 6:
    raise ValueError(f"{name} has {len(every)} classes: expected 6 or more, for three parts that share none")
  cut = max(2, len(every) // 5)
  validation, test, train = np.split(shuffle(every), [cut, 2 * cut])
  return {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}
