"""One picture file, of a known format, as the pixels that learners see; or why it is broken."""

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
from metajax.paths import AnyPath
from metajax.types import Preprocessing

# Formats of pictures and of nothing else: others call programs (EPS), hold documents, or are read by few.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")  # TGA last: any bytes may be
MOST_PIXELS = 2**28  # of a decoded picture, 16,384 x 16,384; a JPEG counts as it is decoded, at a fraction of its size
LARGE = 2**26  # pixels: one such picture is decoded at a time, so that its memory is taken once
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
ENOUGH = 4  # a JPEG may be decoded at a fraction of its size, not below this many times the size that is wanted
NOT_THE_FILES_FAULT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

EXTENSIONS = {end for end, kind in Image.registered_extensions().items() if kind in FORMATS}
READ = [Image.OPEN[kind] for kind in FORMATS if kind in Image.OPEN]  # all that this build of Pillow has
_ALONE = threading.RLock()


class BrokenPicture(Exception):
  """Why a file cannot be read, in a few words."""


def read_picture(path: AnyPath, *, size: int, channels: int, preprocessing: Preprocessing | None = None) -> np.ndarray:
  """The picture of a file, uint8 `[size, size, channels]`: upright, on white, its first frame, squashed to a square.

  Along an axis that shrinks, each new pixel is the mean over what it covers: thin strokes keep their ink. 16-bit greys
  are scaled to 8 bits. With a `Preprocessing` it is in RGB and made ready as that says, whatever size and channels are.

  Raises:
    BrokenPicture: the file is none of FORMATS, cannot be read to its end, or has more than MOST_PIXELS.
  """
  with _broken_otherwise(path), open_regular(path) as file:
    return _picture(file, size, channels, preprocessing)


def read_encoded(content: bytes, *, preprocessing: Preprocessing) -> np.ndarray:
  """The picture of a file's bytes, made ready as `read_picture` does.

  Raises:
    BrokenPicture: as for `read_picture`.
  """
  with _broken_otherwise(), io.BytesIO(content) as file:
    return _picture(file, None, 3, preprocessing)


def _picture(file, size, channels, preprocessing):
  with opened(file) as picture:
    whole = picture.width * picture.height
    if preprocessing is None or whole > LARGE:
      size = size if preprocessing is None else max(preprocessing.pixels, preprocessing.side or 0)
      picture.draft(None, (ENOUGH * size, ENOUGH * size))
    decoded = whole if "progressive" in picture.info else picture.width * picture.height
    if decoded > MOST_PIXELS:
      raise BrokenPicture(f"it has {whole:,} pixels, and at most {MOST_PIXELS:,} are decoded")
    with _pillows_limit_lifted() if decoded > LARGE else contextlib.nullcontext():
      picture = on_white(ImageOps.exif_transpose(picture))
      if preprocessing is not None:
        return preprocess(picture, preprocessing)
      return resized(picture.convert("L" if channels == 1 else "RGB"), size)


def opened(file: IO[bytes]) -> Image.Image:
  """The picture of an open file of one of FORMATS, not decoded yet.

  `Image.open` would warn of an attack where a picture is larger than a limit of Pillow's, which is the whole process's.

  Raises:
    UnidentifiedImageError: it is of none of them.
  """
  beginning = file.read(16)
  for factory, accepts in READ:
    if not _accepts(accepts, beginning):
      continue
    with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # it only begins like one
      file.seek(0)
      try:
        return factory(file, "")
      except Image.DecompressionBombError:  # WebP and GIF look at Pillow's limit themselves
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


def is_grey(path: AnyPath) -> bool:
  """Whether a file says that its picture is grey.

  Raises:
    BrokenPicture: the file has no header of one of FORMATS.
  """
  with _broken_otherwise(path), open_regular(path) as file, opened(file) as picture:
    return picture.mode in GREY


def check_beginning(path: AnyPath):
  """A quick look at the first bytes of a file, some 5 microseconds.

  Raises:
    BrokenPicture: no picture of one of FORMATS begins so.
  """
  with _broken_otherwise(path), open_regular(path, buffering=0) as file:
    beginning = file.read(16)
    # TGA has no beginning of its own: the header as a whole is then looked at, which takes longer.
    if not any(accepts and _accepts(accepts, beginning) for _, accepts in READ):
      file.seek(0)
      opened(file).close()


def is_picture_name(name: str) -> bool:
  """Whether a file's name ends like that of a picture."""
  return os.path.splitext(name)[1].lower() in EXTENSIONS


def _accepts(accepts, beginning):
  """Whether a format may begin so; a text says that this build of Pillow cannot read it."""
  with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
    found = accepts is None or accepts(beginning)
    return bool(found) and not isinstance(found, str)
  return False


def on_white(picture: Image.Image) -> Image.Image:
  """A picture without transparency, in mode L or RGB."""
  if picture.mode.startswith(("I", "F")):
    return _eight_bits(picture)
  if picture.has_transparency_data:
    picture = picture.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
  return picture.convert("L" if picture.mode in GREY else "RGB")


def _eight_bits(picture):
  """Integers are taken to be of 16 bits, floats from 0 to 1."""
  pixels, most = np.asarray(picture), 1 if picture.mode == "F" else 65535
  if not (pixels.min() >= 0 and pixels.max() <= most):
    raise BrokenPicture(f"values from {pixels.min()} to {pixels.max()}, expected 0 to {most}")
  return Image.fromarray(np.rint(pixels * (255 / most)).astype(np.uint8))


def resized(picture: Image.Image, size: int) -> np.ndarray:
  """A picture in mode L or RGB as uint8 `[size, size, channels]`."""
  for width, height in ((size, picture.height), (size, size)):
    shrinks = width * height < picture.width * picture.height
    picture = picture.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
  return np.asarray(picture).reshape(size, size, -1)


@contextlib.contextmanager
def _broken_otherwise(path=None):
  try:
    yield
  except (BrokenPicture, MemoryError):
    raise
  except UnidentifiedImageError:
    empty = path is not None and not os.path.getsize(path)
    raise BrokenPicture("empty file" if empty else "not a picture of a format that is read") from None
  except FileNotFoundError:
    raise BrokenPicture("no such file") from None
  except Exception as error:  # Pillow's readers raise errors of all kinds on broken files
    if getattr(error, "errno", None) in NOT_THE_FILES_FAULT:
      raise
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise BrokenPicture(" ".join(reason.split())) from None
