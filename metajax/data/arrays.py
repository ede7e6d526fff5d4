"""An archive of NumPy arrays (`.npz`) as a table: never a pickle, so that a file from elsewhere can do no harm."""

import zipfile
import zlib

import numpy as np

from metajax.data.tables import SPLITS, make_table

KEYS = ("images", "labels", "classes", "groups", "split")


def read_npz(path):
  """The `Table` of an archive: `images` and `labels`, optionally `classes`, `groups` and `split`.

  `images` are uint8, 0 to 255, or floats, 0 to 1: `[n, height, width]` or `[n, height, width, channels]` with 1 or 3
  channels. `labels` are strings or integers `[n]`; `classes` are the names of integer labels from 0; `groups` and
  `split` ("train", "validation" or "test") are strings `[n]`.

  Raises:
    FileNotFoundError, PermissionError: the file cannot be opened.
    ValueError: it is no archive, holds pickled objects, or its arrays are not as said above.
  """
  name, arrays = repr(path), _arrays(path)
  images = _pictures(name, arrays["images"])
  for key in {"labels", "groups", "split"} & set(arrays):
    if arrays[key].shape != (len(images),):
      raise ValueError(
        f"{name} has {key} of shape {list(arrays[key].shape)}, expected [{len(images)}], as many as images"
      )
  labels, order = _classes(name, arrays["labels"], arrays.get("classes"))
  groups = arrays["groups"].astype(str).tolist() if "groups" in arrays else [""] * len(images)
  splits = arrays["split"].astype(str).tolist() if "split" in arrays else None
  if splits and not set(splits) <= set(SPLITS):
    wrong = next(split for split in splits if split not in SPLITS)
    raise ValueError(f"{name} has the split {wrong!r}, expected train, validation or test")
  splits = splits and [SPLITS[split] for split in splits]
  return make_table(name, labels, groups, splits, images, [f"images[{i}]" for i in range(len(images))], order)


def _arrays(path):
  try:
    if not zipfile.is_zipfile(path):
      open(path, "rb").close()
      raise ValueError(f"{path!r} is no .npz archive: expected one as np.savez writes it")
    with np.load(path, allow_pickle=False) as stored:
      if missing := {"images", "labels"} - set(stored):
        there = ", ".join(stored) or "nothing"
        raise ValueError(f"{path!r} has no array {min(missing)!r}: expected images and labels, got {there}")
      return {key: stored[key] for key in KEYS if key in stored}
  except OSError as error:
    raise type(error)(f"cannot read {path!r}: {error.strerror or error}") from None
  except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
    if "allow_pickle" in str(error):
      raise ValueError(
        f"{path!r} holds pickled objects, which are never read: save plain arrays, "
        'np.savez(path, images=np.stack(images), labels=np.array(labels, dtype="U"))'
      ) from None
    if isinstance(error, ValueError) and str(error).startswith(repr(path)):
      raise
    raise ValueError(f"{path!r} is damaged: {' '.join(str(error).split())}") from None


def _pictures(name, images):
  """uint8 `[n, height, width, channels]`."""
  shape = list(images.shape)
  if images.ndim not in (3, 4) or (images.ndim == 4 and shape[-1] not in (1, 3)) or 0 in shape:
    raise ValueError(f"{name} has images of shape {shape}, expected [n, height, width] or [n, height, width, 1 or 3]")
  if images.ndim == 3:
    images = images[..., None]
  if images.dtype == np.uint8:
    return images
  if images.dtype.kind != "f":
    raise ValueError(f"{name} has images of {images.dtype}, expected uint8 from 0 to 255 or floats from 0 to 1")
  if not (images.min() >= 0 and images.max() <= 1):
    raise ValueError(f"{name} has images from {images.min()} to {images.max()}, expected floats from 0 to 1, or uint8")
  return np.rint(images * np.float32(255)).astype(np.uint8)


def _classes(name, labels, classes):
  """The class name of each picture, and all names in order."""
  if classes is not None and (classes.ndim != 1 or classes.dtype.kind not in "US" or len(set(classes)) < len(classes)):
    raise ValueError(f"{name} has classes {classes.dtype} {list(classes.shape)}, expected unique strings, one a class")
  if labels.dtype.kind in "US" and classes is None:
    return labels.astype(str).tolist(), None
  if labels.dtype.kind not in "iu":
    expected = "integers or strings" if classes is None else "integers, the indices of the classes"
    raise ValueError(f"{name} has labels of {labels.dtype}, expected {expected}")
  present = np.unique(labels)
  if classes is None:
    return labels.astype(str).tolist(), present.astype(str).tolist()
  if present[0] < 0 or present[-1] >= len(classes):
    raise ValueError(f"{name} has labels from {present[0]} to {present[-1]}, expected 0 to {len(classes) - 1}")
  return classes[labels].astype(str).tolist(), classes[present].astype(str).tolist()
