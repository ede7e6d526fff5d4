"""Reads one image file of a known format as pixels, or raises with the reason why it cannot."""

import contextlib
import errno
import io
import os
import struct
import threading
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from metajax.data.files.opening import open_regular
from metajax.data.files.preprocessing import preprocess
from metajax.paths import AnyPath, is_url
from metajax.types import Preprocessing

# Pure image formats: others call programs (EPS), hold documents, or are rare.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")  # TGA last: any bytes may be
MOST_PIXELS = 2**28  # of a decoded image, 16,384 x 16,384; a JPEG counts at the reduced size at which it is decoded
LARGE = 2**26  # pixels; larger images are decoded one at a time, to bound memory
GRAY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
ENOUGH = 4  # a JPEG may be decoded at a reduced size, at least this many times the target size
NOT_THE_FILES_FAULT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

EXTENSIONS = {end for end, kind in Image.registered_extensions().items() if kind in FORMATS}
READ = [Image.OPEN[kind] for kind in FORMATS if kind in Image.OPEN]  # those that this build of Pillow supports
_ALONE = threading.RLock()


class UnreadableImage(Exception):
  """A file cannot be read as an image; the message gives the reason in a few words."""


def read_image(path: AnyPath, *, size: int, channels: int, preprocessing: Preprocessing | None = None) -> np.ndarray:
  """The image of a file, uint8 `[size, size, channels]`: upright, on white, its first frame, squashed to a square.

  Along an axis that shrinks, each new pixel is the mean over the area it covers, so thin strokes keep their ink. 16-bit
  grays are scaled to 8 bits. With a `Preprocessing` the image is RGB and processed accordingly; size and channels are
  ignored.

  Raises:
    UnreadableImage: if the file has none of FORMATS, cannot be read to its end, or has more than MOST_PIXELS.
  """
  with _or_unreadable(path), open_regular(path) as file:
    return _image(file, size, channels, preprocessing)


def read_encoded(content: bytes, *, size: int, channels: int, preprocessing: Preprocessing | None = None) -> np.ndarray:
  """The image of a file's bytes, to the same pixels as by `read_image`.

  Raises:
    UnreadableImage: as for `read_image`.
  """
  with _or_unreadable(), io.BytesIO(content) as file:
    return _image(file, size, channels, preprocessing)


def read_original(content: bytes, *, channels: int) -> Image.Image:
  """The image of a file's bytes at its full size: upright, on white, gray for one channel and else RGB.

  Raises:
    UnreadableImage: as for `read_image`.
  """
  with _or_unreadable(), io.BytesIO(content) as file, opened(file) as image:
    pixels = image.width * image.height
    _check_pixels(pixels, pixels)
    with _pillows_limit_lifted() if pixels > LARGE else contextlib.nullcontext():
      return on_white(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")


def _check_pixels(decoded, whole):
  if decoded > MOST_PIXELS:
    raise UnreadableImage(f"it has {whole:,} pixels, and at most {MOST_PIXELS:,} are decoded")


def _image(file, size, channels, preprocessing):
  with opened(file) as image:
    whole = image.width * image.height
    if preprocessing is None or whole > LARGE:
      size = size if preprocessing is None else max(preprocessing.pixels, preprocessing.side or 0)
      image.draft(None, (ENOUGH * size, ENOUGH * size))
    decoded = whole if "progressive" in image.info else image.width * image.height
    _check_pixels(decoded, whole)
    with _pillows_limit_lifted() if decoded > LARGE else contextlib.nullcontext():
      return image_of(image, size, channels, preprocessing)


def image_of(
  image: Image.Image, size: int | None, channels: int, preprocessing: Preprocessing | None = None
) -> np.ndarray:
  """An image of Pillow, processed as by `read_image`: uint8 `[size, size, channels]`."""
  image = on_white(ImageOps.exif_transpose(image))
  if preprocessing is not None:
    return preprocess(image, preprocessing)
  assert size is not None
  return resized(image.convert("L" if channels == 1 else "RGB"), size)


def opened(file: IO[bytes]) -> Image.Image:
  """The image of an open file of one of FORMATS, not decoded yet.

  `Image.open` would raise or warn for images above Pillow's limit, which is global to the process.

  Raises:
    UnidentifiedImageError: if the file has none of FORMATS.
  """
  beginning = file.read(16)
  for factory, accepts in READ:
    if not _accepts(accepts, beginning):
      continue
    with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # it only begins like this format
      file.seek(0)
      try:
        return factory(file, "")
      except Image.DecompressionBombError:  # WebP and GIF check Pillow's limit themselves
        with _pillows_limit_lifted():
          file.seek(0)
          return factory(file, "")
  raise UnidentifiedImageError


@contextlib.contextmanager
def _pillows_limit_lifted():
  with _ALONE:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
      yield
    finally:
      Image.MAX_IMAGE_PIXELS = limit


def is_gray(path: AnyPath) -> bool:
  """Whether an image file is gray according to its header.

  Raises:
    UnreadableImage: if the file has no header of one of FORMATS.
  """
  with _or_unreadable(path), open_regular(path) as file, opened(file) as image:
    return image.mode in GRAY


def check_beginning(path: AnyPath):
  """Checks the first bytes of a file, in about 5 microseconds.

  Raises:
    UnreadableImage: if no image of one of FORMATS begins with them.
  """
  with _or_unreadable(path), open_regular(path, buffering=0) as file:
    beginning = file.read(16)
    # TGA has no magic number: its full header is then parsed, which takes longer.
    if not any(accepts and _accepts(accepts, beginning) for _, accepts in READ):
      file.seek(0)
      opened(file).close()


def is_image_name(name: str) -> bool:
  """Whether a file's name has an image extension."""
  return os.path.splitext(name)[1].lower() in EXTENSIONS


def _accepts(accepts, beginning):
  """Whether a format may begin with these bytes; Pillow returns a string if this build cannot read the format."""
  with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
    found = accepts is None or accepts(beginning)
    return bool(found) and not isinstance(found, str)
  return False


def on_white(image: Image.Image) -> Image.Image:
  """Composes an image on white: no transparency, in mode L or RGB."""
  if image.mode.startswith(("I", "F")):
    return _eight_bits(image)
  if image.has_transparency_data:
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
  return image.convert("L" if image.mode in GRAY else "RGB")


def _eight_bits(image):
  """Scales an image to 8 bits; integers count as 16-bit, floats as 0 to 1."""
  pixels, most = np.asarray(image), 1 if image.mode == "F" else 65535
  if not (pixels.min() >= 0 and pixels.max() <= most):
    raise UnreadableImage(f"values from {pixels.min()} to {pixels.max()}, expected 0 to {most}")
  return Image.fromarray(np.rint(pixels * (255 / most)).astype(np.uint8))


def resized(image: Image.Image, size: int) -> np.ndarray:
  """An image in mode L or RGB as uint8 `[size, size, channels]`."""
  for width, height in ((size, image.height), (size, size)):
    shrinks = width * height < image.width * image.height
    image = image.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
  return np.asarray(image).reshape(size, size, -1)


@contextlib.contextmanager
def _or_unreadable(path=None):
  try:
    yield
  except (UnreadableImage, MemoryError):
    raise
  except UnidentifiedImageError:
    empty = path is not None and not is_url(path) and not os.path.getsize(path)
    raise UnreadableImage("empty file" if empty else "not an image of a format that is read") from None
  except FileNotFoundError:
    raise UnreadableImage("no such file") from None
  except Exception as error:  # Pillow's readers raise errors of all kinds on broken files
    if getattr(error, "errno", None) in NOT_THE_FILES_FAULT:
      raise
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise UnreadableImage(" ".join(reason.split())) from None
