"""Labeled shards as an `ImageDataset`: classes from `.cls` members, json or record features."""

import json
import os
import threading

import numpy as np

from metajax.data.class_split import BY_DEFAULT, ClassSplit
from metajax.data.files.image_file import UnreadableImage, read_encoded
from metajax.data.files.lazy_images import in_threads
from metajax.data.shards.opening import open_samples
from metajax.data.shards.samples import with_replacement
from metajax.data.shards.verified import readable_rows
from metajax.data.source import ImageDataset
from metajax.data.splits import check_split, choose
from metajax.data.tfds.random_access import remembered
from metajax.types import Preprocessing

LONGEST = 1000  # characters of a class name


def labeled_shards(
  name: str,
  split: str,
  *,
  size: int,
  seed: int = 0,
  skip_unreadable: bool = False,
  least: int = 1,
  preprocessing: Preprocessing | None = None,
  class_split: ClassSplit = BY_DEFAULT,
) -> ImageDataset:
  """The `ImageDataset` of one part of labeled shards, for `metajax.data.load`; its RGB images are read on access.

  Samples without an image or a label are left out. Shards whose paths hold the word train, val, validation or test, all
  of them, are official splits. An image that proves to be unreadable is replaced by the next of its class in this part,
  the same at every step and on every host, and named in a warning; `skip_unreadable` leaves such images out instead.

  Args:
    name: pattern of the shards.
    split, size, seed, skip_unreadable, preprocessing: as for `load`.
    least, class_split: as for `source_of`.

  Raises:
    OSError: if a shard is missing or cannot be read.
    ValueError: if the pattern is malformed, or no sample has an image and a label.
  """
  samples = open_samples(name, "label")
  check_split(samples.name, split, samples.own)
  labels, names, left_out = _labels(samples)
  rows, _, small = choose(samples.name, split, labels, samples.own, seed, least, class_split, names)

  def read(row):
    return read_encoded(samples.image(row), size=size, channels=3, preprocessing=preprocessing)

  if skip_unreadable:
    rows, unreadable = readable_rows(samples, split, rows, read, ("labeled", size, preprocessing))
    left_out += unreadable
  present, of_class = np.unique(labels[rows], return_inverse=True)
  classes = tuple(names[c] for c in present)
  return ImageDataset(
    images=_images(samples, rows, of_class, read, size if preprocessing is None else preprocessing.pixels),
    labels=of_class.astype(np.int32),
    classes=classes,
    superclasses=("",) * len(classes),
    captions=tuple((label,) for label in classes),
    styles=("",) * len(rows),
    unreadable=samples.left_out + left_out,
    small_classes=tuple(names[c] for c in small),
  )


def _images(samples, rows, of_class, read, side):
  """Images that are read on access, an unreadable one replaced by the next of its class."""

  def following(i):
    same = np.flatnonzero(of_class == of_class[i])
    return int(same[(np.searchsorted(same, i) + 1) % len(same)])

  def place(i):
    return samples.place(int(rows[i]))

  content = lambda i: samples.image(int(rows[i]))  # noqa: E731
  found = with_replacement(
    lambda i: read(int(rows[i])), len(rows), (side, side, 3), following, place, samples.name, content
  )
  return found.images


def _labels(samples):
  """The class of each sample, -1 for none that can be read; the classes; and the names of those without."""
  codes, known, lock = np.full(samples.number, -1, np.int32), {}, threading.Lock()

  def fill(chunk):
    for row in range(samples.number)[chunk]:
      try:
        label = samples.label(row)
      except UnreadableImage:
        continue
      label = label.strip() if isinstance(label, str) else str(label) if type(label) is int else ""
      if 0 < len(label) <= LONGEST:
        with lock:
          codes[row] = known.setdefault(label, len(known))

  def make():
    in_threads(fill, samples.number)()
    whole = all(label.removeprefix("-").isdecimal() for label in known)
    classes = sorted(known, key=lambda label: (int(label) if whole else 0, label))
    place = np.full(len(known) + 1, -1, np.int32)
    place[[known[label] for label in classes]] = np.arange(len(classes))
    return {"labels": place[codes], "classes": np.array(json.dumps(classes))}

  found = remembered([os.path.abspath(path) for path in samples.files], ("labels", 1), make)
  classes, bare = tuple(json.loads(str(found["classes"]))), np.flatnonzero(found["labels"] < 0).tolist()
  if len(classes) < 2:
    raise ValueError(f"{samples.name} has {len(classes)} classes: expected 2 or more")
  return found["labels"], classes, tuple(f"{samples.place(row)} (its label cannot be read)" for row in bare)
