"""Labeled images with random access: the type `ImageDataset`, and selections of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metajax import checks
from metajax.data.files.lazy_images import LazyImages, take

MOST_PIXELS = 2**14  # largest side of an image


class ImageDataset(NamedTuple):
  """Labeled images with random access.

  Attributes:
    images: uint8 `[n, height, width, channels]`, 0 to 255; the characters of glyphs and Omniglot have ink at 255. An
      array, or `LazyImages` that are decoded on access.
    labels: int32 `[n]`, indices into `classes`.
    classes: unique name of each class.
    superclasses: alphabet, script or family of each class; "" for none.
    captions: texts that describe each class, at least one per class.
    styles: drawer or typeface family of each image, `[n]`; "" if unknown.
    unreadable: files that could not be read and were skipped.
    small_classes: classes that were dropped because they have too few images.
  """

  images: np.ndarray | LazyImages
  labels: np.ndarray
  classes: tuple[str, ...]
  superclasses: tuple[str, ...]
  captions: tuple[tuple[str, ...], ...]
  styles: tuple[str, ...]
  unreadable: tuple[str, ...] = ()
  small_classes: tuple[str, ...] = ()

  def __repr__(self) -> str:
    """The sizes; the fields themselves would fill screens."""
    shape = "x".join(map(str, self.images.shape[1:]))
    return f"ImageDataset({len(self.labels):,} images {shape}, {len(self.classes):,} classes)"


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
    labels: class indices `[n]` from 0.
    classes: unique names, by default "0", "1", ... up to the largest label.
    superclasses, captions, styles: as in `ImageDataset`; by default "", the name of the class, and "".

  Returns:
    An `ImageDataset`; the images are not copied.

  Raises:
    ValueError: if shapes or lengths do not match, a label is out of range, or a class has no image.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> images, labels = np.zeros((4, 8, 8, 3), np.uint8), [0, 0, 1, 1]
    >>> data.from_arrays(images, labels, classes=["cat", "dog"]).captions
    (('cat',), ('dog',))
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
  """Raises ValueError unless `source` has the attributes of an `ImageDataset`."""
  if not all(hasattr(source, name) for name in ("images", "labels", "classes", "superclasses", "captions", "styles")):
    raise ValueError(f"expected an ImageDataset, as load or from_arrays gives, got {checks.describe(source)}")


def select_classes(source: ImageDataset, indices: npt.ArrayLike) -> ImageDataset:
  """Selects classes; images keep their order, and classes are renumbered in the order of `indices`.

  Args:
    source: an `ImageDataset`.
    indices: unique indices of classes.

  Returns:
    An `ImageDataset` of the images of these classes.

  Raises:
    ValueError: if `indices` are not unique indices of the source's classes.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((6, 8, 8, 1), np.uint8), [0, 1, 2, 0, 1, 2], classes=["a", "b", "c"])
    >>> chosen = data.select_classes(source, [2, 0])
    >>> chosen.classes, chosen.labels.tolist()
    (('c', 'a'), [1, 0, 1, 0])
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
  """Adds the images rotated by 90, 180 and 270 degrees counterclockwise as new classes, four times as many.

  Class `c` rotated by 90 `k` degrees is class `c + k * len(source.classes)`. A rotated superclass is a new superclass.

  Returns:
    An `ImageDataset` of four times as many images and classes.

  Raises:
    ValueError: if the images are not square.
  """
  check_source(source)
  height, width = source.images.shape[1:3]
  if height != width:
    raise ValueError(f"expected square images, which keep their shape when rotated, got {height} x {width} pixels")
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
  """Selects images, in the given order; classes keep their numbers, and some may have no image left.

  Args:
    source: an `ImageDataset`.
    rows: unique indices of images.

  Returns:
    An `ImageDataset` of these images.

  Raises:
    ValueError: if `rows` are not unique indices of the source's images.
  """
  check_source(source)
  rows = _unique("rows", rows, len(source.labels), lambda given: f"{len(given)} rows")
  return source._replace(
    images=take(source.images, rows), labels=source.labels[rows], styles=tuple(source.styles[row] for row in rows)
  )


def _unique(name, given, count, shown):
  """Checks that indices are unique and below `count`, at least one; `shown` describes bad ones in the message."""
  given, wanted = np.asarray(given), f"expected some unique {name} from 0 to {count - 1}"
  if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
    raise ValueError(f"{wanted}, got {checks.describe(given)}")
  numbers = given.astype(np.int64)
  if not len(numbers) or numbers.min() < 0 or numbers.max() >= count or len(np.unique(numbers)) < len(numbers):
    raise ValueError(f"{wanted}, got {shown(given)}")
  return numbers
