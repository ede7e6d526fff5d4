"""Labeled images at random access: the type, and what chooses from it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metajax import checks
from metajax.data.files.lazy_images import LazyImages, take

MOST_PIXELS = 2**14  # of a side


class ImageDataset(NamedTuple):
  """Labeled images at random access.

  Attributes:
    images: uint8 `[n, height, width, channels]`, 0 to 255; the characters of glyphs and Omniglot have ink at 255. An
      array, or `LazyImages` that are decoded when asked for.
    labels: int32 `[n]`, an index into `classes`.
    classes: the name of each class, unique.
    superclasses: the alphabet, script or family of each class ("" where there is none).
    captions: for each class the texts that describe it, at least one.
    styles: for each image who drew it or in which typeface family ("" where unknown), `[n]`.
    unreadable: the files that could not be read and were left out.
    small_classes: the classes that were left out because they have too few images.
  """

  images: np.ndarray | LazyImages
  labels: np.ndarray
  classes: tuple[str, ...]
  superclasses: tuple[str, ...]
  captions: tuple[tuple[str, ...], ...]
  styles: tuple[str, ...]
  unreadable: tuple[str, ...] = ()
  small_classes: tuple[str, ...] = ()


def from_arrays(
  images: np.ndarray | LazyImages,
  labels: npt.ArrayLike,
  *,
  classes: Sequence[str] | None = None,
  superclasses: Sequence[str] | None = None,
  captions: Sequence[Sequence[str]] | None = None,
  styles: Sequence[str] | None = None,
) -> ImageDataset:
  """An `ImageDataset` from images and the indices of their classes.

  Args:
    images: uint8 `[n, height, width, channels]`, 0 to 255: an array or `LazyImages`.
    labels: integers `[n]` from 0.
    classes: unique names, by default "0", "1", ... up to the largest label.
    superclasses, captions, styles: as in `ImageDataset`; by default "", the name of the class, and "".

  Raises:
    ValueError: the shapes or lengths do not match, a label is out of range, or a class has no image.
  """
  images = images if isinstance(images, LazyImages) else np.asarray(images)
  labels = np.asarray(labels)
  for name, values in (("classes", classes), ("superclasses", superclasses), ("styles", styles)):
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
  superclasses = ("",) * len(classes) if superclasses is None else tuple(superclasses)
  captions = tuple((name,) for name in classes) if captions is None else tuple(tuple(texts) for texts in captions)
  styles = ("",) * len(labels) if styles is None else tuple(styles)
  if not len(classes) == len(set(classes)) == len(superclasses) == len(captions) or len(styles) != len(labels):
    raise ValueError(
      f"expected unique classes with a superclass and captions each, and {len(labels)} styles, got {len(classes)} "
      f"classes ({len(set(classes))} unique), {len(superclasses)} superclasses, {len(captions)} captions, "
      f"{len(styles)} styles"
    )
  if not all(captions):
    raise ValueError(f"expected at least one caption a class, got none for {classes[captions.index(())]!r}")
  if labels.min() < 0 or labels.max() >= len(classes):
    raise ValueError(f"expected labels from 0 to {len(classes) - 1}, got {labels.min()} to {labels.max()}")
  counts = np.bincount(labels, minlength=len(classes))
  if not counts.all():
    raise ValueError(f"expected an image of every class, got none of {classes[np.argmin(counts)]!r}")
  return ImageDataset(images, labels.astype(np.int32), classes, superclasses, captions, styles)


def check_source(source: Any):
  """Refuses what is no source.

  Raises:
    ValueError: with what it is.
  """
  if not all(hasattr(source, name) for name in ("images", "labels", "classes", "superclasses", "captions", "styles")):
    raise ValueError(f"expected an ImageDataset, as load or from_arrays gives, got {checks.describe(source)}")


def select_classes(source: ImageDataset, indices: npt.ArrayLike) -> ImageDataset:
  """The images of some classes, in their order; the classes are numbered anew, in the order of `indices`.

  Raises:
    ValueError: `indices` are not unique indices of the source's classes.
  """
  check_source(source)
  indices = _unique("indices", indices, len(source.classes), lambda given: given.tolist())
  labels = np.full(len(source.classes), -1, np.int32)
  labels[indices] = np.arange(len(indices))
  rows = np.flatnonzero(labels[source.labels] >= 0)
  return source._replace(
    images=take(source.images, rows),
    labels=labels[source.labels[rows]],
    classes=tuple(source.classes[index] for index in indices),
    superclasses=tuple(source.superclasses[index] for index in indices),
    captions=tuple(source.captions[index] for index in indices),
    styles=tuple(source.styles[row] for row in rows),
  )


def with_rotations(source: ImageDataset) -> ImageDataset:
  """The source and its images turned by 90, 180 and 270 degrees (counterclockwise) as classes of their own, four
  times as many: class `c` turned by 90 `k` degrees is class `c + k * len(source.classes)`. A turned alphabet is one of
  its own.

  Raises:
    ValueError: the images are not square.
  """
  check_source(source)
  height, width = source.images.shape[1:3]
  if height != width:
    raise ValueError(f"only square images keep their shape when turned, got {height} by {width}")
  suffixes = ("", *(f" rotated {degrees}" for degrees in (90, 180, 270)))
  return source._replace(
    images=_quarter_turns(source.images),
    labels=np.concatenate([source.labels + turns * np.int32(len(source.classes)) for turns in range(4)]),
    classes=tuple(name + suffix for suffix in suffixes for name in source.classes),
    superclasses=tuple(group and group + suffix for suffix in suffixes for group in source.superclasses),
    captions=tuple(tuple(text + suffix for text in texts) for suffix in suffixes for texts in source.captions),
    styles=source.styles * 4,
  )


def _quarter_turns(images):
  if isinstance(images, LazyImages):
    return images.with_quarter_turns()
  return np.concatenate([np.rot90(images, turns, axes=(1, 2)) for turns in range(4)])


def select_rows(source: ImageDataset, rows: npt.ArrayLike) -> ImageDataset:
  """The images of some rows, in the order given; classes keep their numbers, and may be left without an image.

  Raises:
    ValueError: `rows` are not unique indices of the source's images.
  """
  check_source(source)
  rows = _unique("rows", rows, len(source.labels), lambda given: f"{len(given)} rows")
  return source._replace(
    images=take(source.images, rows), labels=source.labels[rows], styles=tuple(source.styles[row] for row in rows)
  )


def _unique(name, given, count, shown):
  """Indices below `count`, which are to be some and unique; `shown` is what is said of numbers that are not."""
  given, wanted = np.asarray(given), f"expected some unique {name} from 0 to {count - 1}"
  if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
    raise ValueError(f"{wanted}, got {checks.describe(given)}")
  numbers = given.astype(np.int64)
  if not len(numbers) or numbers.min() < 0 or numbers.max() >= count or len(np.unique(numbers)) < len(numbers):
    raise ValueError(f"{wanted}, got {shown(given)}")
  return numbers
