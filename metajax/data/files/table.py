"""One's own images as a table: which class and split each is of, as a folder, a CSV file or an archive says."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metajax.data.splits import PARTS

SPLITS = {**{part: part for part in PARTS}, "val": "validation"}


class Table(NamedTuple):
  """Labeled images that are not read yet.

  Attributes:
    name: of the whole, for messages.
    labels: int32 `[n]`, an index into `classes`.
    classes: unique names.
    superclasses: of each class, "" where there is none.
    own: the rows of each of the set's own splits, and of "all".
    images: the path of each image, or the images uint8 `[n, height, width, channels]`.
    places: what to call each image in a message.
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
  """A `Table` from the class, group and split of each image; splits is None where there are none.

  Raises:
    ValueError: there are fewer than two classes, or a class is in two groups.
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
