"""User-supplied images as a table: the class and split of each, from a folder, a CSV file or an archive."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metajax.data.splits import PARTS

SPLITS = {**{part: part for part in PARTS}, "val": "validation"}


class Table(NamedTuple):
  """Labeled images that are not read yet.

  Attributes:
    name: name of the set, for messages.
    labels: int32 `[n]`, indices into `classes`.
    classes: unique names.
    superclasses: superclass of each class; "" for none.
    own: rows of each official split, and of "all".
    images: path of each image, or images uint8 `[n, height, width, channels]`.
    places: name of each image in messages.
  """

  name: str
  labels: np.ndarray
  classes: tuple[str, ...]
  superclasses: tuple[str, ...]
  own: dict[str, np.ndarray]
  images: list[str] | np.ndarray
  places: list[str]


def make_table(
  name: str,
  labels: Sequence[str],
  superclasses: Sequence[str],
  splits: Sequence[str] | None,
  images: list[str] | np.ndarray,
  places: list[str],
  order: Sequence[str] | None = None,
) -> Table:
  """A `Table` from the class, superclass and split of each image.

  Args:
    name, images, places: as in `Table`.
    labels: class name of each image.
    superclasses: superclass of each image.
    splits: official split of each image, or None.
    order: class names in order; sorted by default.

  Raises:
    ValueError: if there are fewer than two classes, or a class has two superclasses.
  """
  classes = sorted(set(labels)) if order is None else order
  if len(classes) < 2:
    raise ValueError(f"{name} has one class, {classes[0]!r}: expected 2 or more")
  group_of = {}
  for label, group in zip(labels, superclasses, strict=True):
    if group_of.setdefault(label, group) != group:
      raise ValueError(f"{name} has class {label!r} in two groups, {group_of[label]!r} and {group!r}: expected one")
  index = {label: i for i, label in enumerate(classes)}
  own = {"all": np.arange(len(labels))}
  if splits is not None:
    given = np.array(splits)
    own = {part: np.flatnonzero(given == part) for part in PARTS if np.any(given == part)} | own
  return Table(
    name=name,
    labels=np.array([index[label] for label in labels], np.int32),
    classes=tuple(classes),
    superclasses=tuple(group_of[label] for label in classes),
    own=own,
    images=images,
    places=places,
  )
