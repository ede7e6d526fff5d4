"""The labeled images of a support set: from a folder, a CSV file, an npz archive, or arrays."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.data.files.image_file import is_image_name
from metajax.data.files.user_images import read_table
from metajax.export import ImageFormat
from metajax.inference.images import each_image, read_images, unreadable_images


class Support(NamedTuple):
  """Labeled images.

  Attributes:
    images: uint8 `[s, size, size, channels]`.
    labels: Class of each image, `s` names.
    names: Name of each image, such as its path.
    unreadable: Names of the images that were left out, with the reason.
  """

  images: np.ndarray
  labels: tuple[str, ...]
  names: tuple[str, ...]
  unreadable: tuple[str, ...] = ()


def read_support(support: Any, form: ImageFormat, *, skip_unreadable: bool = False) -> Support:
  """Reads labeled images; classes may have different numbers of images.

  Args:
    support: A folder `class/*.png`, a `.csv` file with the columns path and label, a `.npz` file with images and
      labels, a mapping from each class to its images, or `(images, labels)`; images as for `as_images`.
    form: Format of the images.
    skip_unreadable: Whether to leave out images that cannot be read.

  Raises:
    FileNotFoundError, PermissionError: If a file cannot be read.
    ValueError: If an image cannot be read, there are fewer than two classes, or a class has no images.
  """
  if isinstance(support, str | os.PathLike):
    return _of_table(os.path.expanduser(os.fspath(support)), form, skip_unreadable)
  if isinstance(support, Support):
    return support
  if isinstance(support, Mapping):
    pairs = [(image, str(label)) for label, images in support.items() for image in _of_class(label, images)]
  elif isinstance(support, tuple) and len(support) == 2:
    images, labels = list(each_image(support[0])), [str(label) for label in support[1]]
    if len(images) != len(labels):
      raise ValueError(f"expected a label for each of {len(images)} images, got {len(labels)}")
    pairs = list(zip(images, labels, strict=True))
  else:
    raise ValueError(f"expected a path, {{class: images}} or (images, labels), got {type(support).__name__}")
  images, labels = [image for image, _ in pairs], [label for _, label in pairs]
  names = [image if isinstance(image, str) else f"{label} {i}" for i, (image, label) in enumerate(pairs)]
  return _read(images, labels, names, form, skip_unreadable)


def _of_class(label: Any, images: Any) -> list:
  found = list(each_image(images))
  if not found:
    raise ValueError(f"expected images of every class, got none of {label!r}")
  return found


def _of_table(path: str, form: ImageFormat, skip_unreadable: bool) -> Support:
  if not os.path.exists(path):
    raise FileNotFoundError(f"no such folder, .csv or .npz file of labeled images: {path!r}")
  if os.path.isdir(path):
    _check_no_empty_class(Path(path))
  table = read_table(path)
  labels = [table.classes[label] for label in table.labels]
  names = [f"image {i}" if isinstance(table.images, np.ndarray) else image for i, image in enumerate(table.images)]
  return _read(list(table.images), labels, names, form, skip_unreadable)


def _check_no_empty_class(path: Path):
  """Raises for a folder without images in a folder of classes, which would otherwise be no class."""
  full = set()
  for folder, inside, names in os.walk(path, topdown=False):
    hidden = any(part.startswith(".") for part in Path(folder).relative_to(path).parts)
    if any(map(is_image_name, names)) or any(os.path.join(folder, name) in full for name in inside):
      full.add(folder)
    elif not hidden:
      raise ValueError(f"expected images of every class, got none in {folder!r}")


def _read(
  images: list, labels: Sequence[str], names: Sequence[str], form: ImageFormat, skip_unreadable: bool
) -> Support:
  _check_classes(labels)
  found, unreadable = read_images(images, form)
  if unreadable and not skip_unreadable:
    advice = ": skip_unreadable=True (--skip-unreadable) leaves them out"
    raise ValueError(unreadable_images(list(names), unreadable) + advice)
  kept = [i for i in range(len(images)) if i not in unreadable]
  if lost := sorted(set(labels) - {labels[i] for i in kept}):
    raise ValueError(f"expected images of every class that can be read, got none of {lost[0]!r}")
  left_out = tuple(f"{names[i]}: {reason}" for i, reason in sorted(unreadable.items()))
  return Support(found[kept], tuple(labels[i] for i in kept), tuple(names[i] for i in kept), left_out)


def _check_classes(labels: Sequence[str]):
  classes = sorted(set(labels))
  if len(classes) < 2:
    raise ValueError(f"expected two classes or more in the support set, got {', '.join(map(repr, classes)) or 'none'}")
