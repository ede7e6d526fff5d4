"""An archive of NumPy arrays (`.npz`) as a table; pickles are never loaded, so untrusted files are safe."""

import io
import math
import os
import zipfile

import numpy as np
from numpy.lib import format as npy

from metajax import checks
from metajax.data.files.opening import BROKEN_ARCHIVE, check_regular, open_regular
from metajax.data.files.table import SPLITS, Table, make_table
from metajax.paths import is_url

KEYS = ("images", "labels", "classes", "groups", "split")
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: str) -> Table:
  """The `Table` of an archive of `images` and `labels`, optionally `classes`, `groups` and `split`.

  `images` are uint8, 0 to 255, or floats, 0 to 1: `[n, height, width]` or `[n, height, width, channels]` with 1 or 3
  channels. `labels` are strings or integers `[n]`; `classes` are the names of integer labels from 0; `groups` and
  `split` ("train", "validation" or "test") are strings `[n]`.

  Raises:
    FileNotFoundError, PermissionError: if the file cannot be opened.
    ValueError: if it is not an archive, holds pickled objects or more than fits in memory, or its arrays are not as
      described above.
  """
  name, arrays = repr(path), _arrays(path)
  images = _images(name, arrays["images"])
  for key in {"labels", "groups", "split"} & set(arrays):
    if arrays[key].shape != (len(images),):
      raise ValueError(
        f"{name} has {key} of shape {list(arrays[key].shape)}, expected [{len(images)}], as many as images"
      )
  labels, order = _classes(name, arrays["labels"], arrays.get("classes"))
  superclasses = _texts(name, "groups", arrays["groups"]) if "groups" in arrays else [""] * len(images)
  splits = _texts(name, "split", arrays["split"]) if "split" in arrays else None
  if splits and not set(splits) <= set(SPLITS):
    wrong = next(split for split in splits if split not in SPLITS)
    raise ValueError(f"{name} has the split {wrong!r}, expected train, validation or test")
  splits = splits and [SPLITS[split] for split in splits]
  return make_table(name, labels, superclasses, splits, images, [f"images[{i}]" for i in range(len(images))], order)


def _arrays(path):
  try:
    check_regular(path)
    file = open_regular(path) if is_url(path) else path
    if not zipfile.is_zipfile(file):
      open_regular(path).close()
      raise ValueError(f"{path!r} is not an .npz archive: expected one written by np.savez")
    _check_sizes(path, file)
    if isinstance(file, io.IOBase):
      file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
      if missing := {"images", "labels"} - set(stored):
        there = ", ".join(stored) or "nothing"
        raise ValueError(f"{path!r} has no array {min(missing)!r}: expected images and labels, got {there}")
      return {key: stored[key] for key in KEYS if key in stored}
  except OSError as error:
    raise type(error)(f"cannot read {path!r}: {error.strerror or error}") from None
  except BROKEN_ARCHIVE as error:
    if isinstance(error, ValueError) and str(error).startswith(repr(path)):
      raise
    raise ValueError(f"{path!r} is damaged: {' '.join(str(error).split())}") from None


def _check_sizes(path, file):
  """Raises, by the headers alone, if arrays have a wrong length or do not fit in memory."""
  total = 0
  with zipfile.ZipFile(file) as archive:
    keys = [member.filename.removesuffix(".npy") for member in archive.infolist()]
    if twice := checks.repeated(keys):
      raise ValueError(f"{path!r} has two arrays {twice!r}: expected each once")
    for key, member in zip(keys, archive.infolist(), strict=True):
      if key not in KEYS:
        continue
      with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in HEADERS:
          raise ValueError(f"{path!r} has {key} in version {version} of the format, expected 1.0 or 2.0")
        shape, _, dtype = HEADERS[version](file)
        said, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
      if dtype.hasobject:
        raise ValueError(
          f"{path!r} holds pickled objects, which are never read: save plain arrays, "
          'np.savez(path, images=np.stack(images), labels=np.array(labels, dtype="U"))'
        )
      if said != there:
        raise ValueError(
          f"{path!r} is damaged: {key}, {dtype} {list(shape)}, need {_bytes(said)}, and {_bytes(there)} are there"
        )
      total += said
  most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else math.inf
  if total > most:
    raise ValueError(f"{path!r} holds {_bytes(total)}, expected at most the {_bytes(most)} of this machine's memory")


def _bytes(number):
  for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
    if number < 1024 or unit == "EiB":
      return f"{number:,.4g} {unit}"
    number /= 1024


def _images(name, images):
  """The images as uint8 `[n, height, width, channels]`."""
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
  """The class name of each image, and the ordered names (None for sorted)."""
  if classes is not None:
    given = f"{classes.dtype} {list(classes.shape)}"
    if classes.ndim != 1 or classes.dtype.kind not in "US" or len(set(classes)) < len(classes):
      raise ValueError(f"{name} has classes {given}, expected unique strings, one a class")
    classes = _texts(name, "classes", classes, empty=False)
  if labels.dtype.kind in "US" and classes is None:
    return _texts(name, "labels", labels, empty=False), None
  if labels.dtype.kind not in "iu":
    expected = "integers or strings" if classes is None else "integers, the indices of the classes"
    raise ValueError(f"{name} has labels of {labels.dtype}, expected {expected}")
  present = np.unique(labels)
  if classes is None:
    return labels.astype(str).tolist(), present.astype(str).tolist()
  if present[0] < 0 or present[-1] >= len(classes):
    raise ValueError(f"{name} has labels from {present[0]} to {present[-1]}, expected 0 to {len(classes) - 1}")
  return [classes[label] for label in labels], [classes[label] for label in present]


def _texts(name, key, array, empty=True):
  """The strings of an array, bytes decoded as UTF-8; raises if one is empty and `empty` is False."""
  try:
    texts = (np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array.astype(str)).tolist()
  except UnicodeDecodeError as error:
    raise ValueError(f"{name} has {key} that are not UTF-8 text: got {error.object!r}") from None
  bare = next((i for i, text in enumerate(texts) if not text.strip()), None) if not empty else None
  if bare is not None:
    raise ValueError(f"{name} has an empty text at {key}[{bare}], expected the name of a class")
  return texts
