"""Labelled pictures at random access: the built-in glyphs, Omniglot's named splits, any TFDS classification set."""

from typing import NamedTuple

import numpy as np


class Source(NamedTuple):
  """Labelled pictures in memory, at random access.

  Attributes:
    images: uint8 `[n, height, width, channels]`, 0 to 255; characters have ink at 255.
    labels: int32 `[n]`, an index into `classes`.
    classes: the name of each class, unique.
    groups: the alphabet, script or family of each class ("" where there is none).
    captions: for each class the texts that describe it, at least one.
    styles: for each picture who drew it or in which typeface family ("" where unknown), `[n]`.
  """

  images: np.ndarray
  labels: np.ndarray
  classes: tuple[str, ...]
  groups: tuple[str, ...]
  captions: tuple[tuple[str, ...], ...]
  styles: tuple[str, ...]
