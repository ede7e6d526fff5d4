"""One pass over the samples of a set, to leave out those that cannot be read."""

import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from metajax.data.files.image_file import UnreadableImage
from metajax.data.files.lazy_images import in_threads
from metajax.data.files.verification import Progress
from metajax.data.shards.samples import Samples
from metajax.data.tfds.random_access import remembered


def readable_rows(
  samples: Samples, split: str, rows: np.ndarray, read: Callable[[int], Any], key: tuple
) -> tuple[np.ndarray, tuple[str, ...]]:
  """The rows that can be read, and the names of the others; of large sets the result is cached.

  Args:
    samples: the samples.
    split: name of the part, for messages.
    rows: rows of the part, ascending.
    read: `(row) -> value`; raises `UnreadableImage`.
    key: what `read` depends on besides the row.

  Raises:
    ValueError: if no row can be read.
  """
  progress, unreadable = Progress(f"verified {{}} of {len(rows):,} images of {samples.name}", len(rows)), []

  def verify(chunk):
    for row in rows[chunk].tolist():
      try:
        read(row)
      except UnreadableImage:
        unreadable.append(row)
    progress.advance(len(rows[chunk]))

  def make():
    in_threads(verify, len(rows))()
    return {"unreadable": np.array(sorted(unreadable), np.int64)}

  of = ("verified", key, hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest())
  found = remembered([os.path.abspath(path) for path in samples.files], of, make)["unreadable"]
  readable = np.setdiff1d(rows, found, assume_unique=True)
  if not len(readable):
    raise ValueError(f"split {split!r} of {samples.name} holds no sample that can be read")
  return readable, tuple(f"{samples.place(row)} (it cannot be decoded)" for row in found.tolist())
