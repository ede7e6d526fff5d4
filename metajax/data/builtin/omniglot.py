"""Omniglot's published splits into training, validation and test characters. Results differ by split: name it."""

from importlib import resources

import numpy as np

from metajax.data.source import ImageDataset, select_classes, select_rows
from metajax.data.splits import PARTS
from metajax.data.tfds.builder import prepared
from metajax.data.tfds.decoding import decode, read, undecodable
from metajax.paths import AnyPath

SPLITS = ("lake", "vinyals", "finn")
LAKE_VALIDATION = 64  # characters


def omniglot(
  split: str = "lake/train",
  *,
  size: int = 28,
  data_dir: AnyPath | None = None,
  download: bool = False,
  seed: int = 0,
  skip_unreadable: bool = False,
) -> ImageDataset:
  """One part of one of Omniglot's splits (1,623 characters of 50 alphabets, 20 drawers each).

  - "lake/train", "lake/validation", "lake/test": the 30 background alphabets (964 characters), with a fixed 64 of them
    held out for validation; and the 20 evaluation alphabets (659 characters).
  - "vinyals/...": 1028 / 172 / 423 characters, the split of matching and prototypical networks.
  - "finn/...": 1100 / 100 / 423 characters, all of them shuffled by `seed`; use the same seed for every part.

  A bare part, such as "train", is Lake's.

  Args:
    split: the split and the part.
    size: side of the images in pixels.
    data_dir, download, skip_unreadable: as for `metajax.data.load`.
    seed: seed of the "finn" split.

  Returns:
    An `ImageDataset` of images `[n, size, size, 1]` with ink at 255 on 0, classes "Alphabet/characterNN" sorted by
    name, numbered from 01 as in the original archive, with the alphabet as superclass.

  Raises:
    ValueError: if the split is unknown, or an image cannot be decoded and `skip_unreadable` is False.
    FileNotFoundError, ConnectionError: as for `metajax.data.load`.
  """
  chosen, part = split.split("/") if split.count("/") == 1 else ("lake", split)
  if chosen not in SPLITS or part not in PARTS:
    splits = ", ".join(f"{known}/{part}" for known in SPLITS for part in PARTS)
    raise ValueError(f"unknown split {split!r} of omniglot: expected one of {splits}")
  builder = prepared("omniglot", data_dir, download)
  # TFDS keeps the background alphabets in "train" and the evaluation alphabets in "test".
  if chosen == "lake":
    characters = _characters(builder, "test" if part == "test" else "train")
  else:
    characters = _characters(builder, "train+test")
  part_of = {"lake": _lake, "vinyals": _vinyals, "finn": _finn}[chosen]
  source = select_classes(characters, part_of(characters.classes, part, seed))
  if skip_unreadable:
    source = _without_unreadable(source)
  return source._replace(images=255 - decode(np.asarray(source.images), size=size, channels=1))


def _without_unreadable(source):
  unreadable = undecodable(source.images)
  kept = np.setdiff1d(np.arange(len(source.labels)), list(unreadable)).astype(int)
  left = select_rows(source, kept)._replace(
    unreadable=tuple(f"an image of {source.classes[source.labels[row]]}" for row in unreadable)
  )
  return select_classes(left, np.unique(left.labels))


def _characters(builder, split):
  """All characters of a TFDS split, as an `ImageDataset` of encoded images."""
  records = read(builder, split, "image", ("alphabet", "alphabet_char_id"))
  alphabets = builder.info.features["alphabet"].names
  # TFDS numbers the characters of an alphabet from 0, the archive from 1.
  keys = records["alphabet"] * 100 + records["alphabet_char_id"] + 1
  present, labels = np.unique(keys, return_inverse=True)
  superclasses = tuple(alphabets[key // 100] for key in present)
  numbers = [key % 100 for key in present]
  return ImageDataset(
    images=records["image"],
    labels=labels.astype(np.int32),
    classes=tuple(f"{group}/character{number:02d}" for group, number in zip(superclasses, numbers, strict=True)),
    superclasses=superclasses,
    captions=tuple(
      (f"character {number} of the alphabet {group.replace('_', ' ')}",)
      for group, number in zip(superclasses, numbers, strict=True)
    ),
    styles=("",) * len(labels),
  )


def _lake(classes, part, seed):
  if part == "test":
    return np.arange(len(classes))
  shuffled = np.random.RandomState(0).permutation(len(classes))
  return np.sort(shuffled[:LAKE_VALIDATION] if part == "validation" else shuffled[LAKE_VALIDATION:])


def _vinyals(classes, part, seed):
  lines = resources.files("metajax.data.builtin").joinpath("omniglot_vinyals.txt").read_text().splitlines()
  rows = [line.split(" ") for line in lines if not line.startswith("#")]
  names = {
    f"{alphabet}/character{number:02d}"
    for of_part, alphabet, first, last in rows
    for number in range(int(first), int(last) + 1)
    if of_part == part
  }
  return [index for index, name in enumerate(classes) if name in names]


def _finn(classes, part, seed):
  train, validation, test = np.split(np.random.RandomState(seed).permutation(len(classes)), [1100, 1200])
  return np.sort({"train": train, "validation": validation, "test": test}[part])
