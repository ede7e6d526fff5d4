"""Decodes images from bytes, to the same pixels as files."""

import contextlib
import io

import numpy as np
from PIL import UnidentifiedImageError

from metajax.data.files.image_file import (
  ENOUGH,
  MOST_PIXELS,
  NOT_THE_FILES_FAULT,
  UnreadableImage,
  image_of,
  opened,
  read_encoded,
)
from metajax.types import Preprocessing


def decode(content: bytes, *, size: int, preprocessing: Preprocessing | None = None) -> np.ndarray:
  """The image in some bytes, uint8 `[size, size, 3]`, processed as by `read_image`.

  Raises:
    UnreadableImage: as for `read_image`.
  """
  if preprocessing is not None:
    return read_encoded(content, preprocessing=preprocessing)
  with _or_unreadable(), io.BytesIO(content) as file, opened(file) as image:
    image.draft(None, (ENOUGH * size, ENOUGH * size))
    if image.width * image.height > MOST_PIXELS:
      raise UnreadableImage(f"it has {image.width * image.height:,} pixels, and at most {MOST_PIXELS:,} are decoded")
    return image_of(image, size, 3)


@contextlib.contextmanager
def _or_unreadable():
  try:
    yield
  except (UnreadableImage, MemoryError):
    raise
  except UnidentifiedImageError:
    raise UnreadableImage("not an image of a format that is read") from None
  except Exception as error:  # Pillow's readers raise errors of all kinds on broken images
    if getattr(error, "errno", None) in NOT_THE_FILES_FAULT:
      raise
    raise UnreadableImage(" ".join((str(error) or type(error).__name__).split())) from None
