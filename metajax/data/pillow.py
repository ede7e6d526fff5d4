"""One picture file, of any format that Pillow reads, as the pixels that learners see; or why it is broken."""

import contextlib
import errno
import os
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
ENOUGH = 4  # a JPEG may be decoded at a fraction of its size, not below this many times the size that is wanted
NOT_THE_FILES_FAULT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

EXTENSIONS = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}


class BrokenPicture(Exception):
  """Why a file cannot be read, in a few words."""


def read_picture(path, *, size, channels):
  """The picture of a file, uint8 `[size, size, channels]`: upright, on white, its first frame, squashed to a square.

  Along an axis that shrinks, each new pixel is the mean over what it covers: thin strokes keep their ink. 16-bit greys
  are scaled to 8 bits.

  Raises:
    BrokenPicture: the file cannot be read to its end.
  """
  with _broken_otherwise(path), open(path, "rb") as file, Image.open(file) as picture:
    picture.draft(None, (ENOUGH * size, ENOUGH * size))
    picture = on_white(ImageOps.exif_transpose(picture))
    return resized(picture.convert("L" if channels == 1 else "RGB"), size)


def is_grey(path):
  """Whether a file says that its picture is grey.

  Raises:
    BrokenPicture: the file has no header that Pillow reads.
  """
  with _broken_otherwise(path), open(path, "rb") as file, Image.open(file) as picture:
    return picture.mode in GREY


def check_beginning(path):
  """A quick look at the first bytes of a file, some 5 microseconds.

  Raises:
    BrokenPicture: no picture that Pillow reads begins so.
  """
  with _broken_otherwise(path):
    with open(path, "rb", buffering=0) as file:
      beginning = file.read(16)
    # Some formats have no beginning of their own: Pillow then looks at the header as a whole, which takes longer.
    if not any(_accepts(kind, beginning) for kind in Image.ID):
      Image.open(path).close()


def is_picture_name(name):
  """Whether a file's name ends like that of a picture."""
  return os.path.splitext(name)[1].lower() in EXTENSIONS


def _accepts(kind, beginning):
  accept = Image.OPEN[kind][1]
  with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
    return bool(accept and accept(beginning))
  return False


def on_white(picture):
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


def resized(picture, size):
  """A picture in mode L or RGB as uint8 `[size, size, channels]`."""
  for width, height in ((size, picture.height), (size, size)):
    shrinks = width * height < picture.width * picture.height
    picture = picture.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
  return np.asarray(picture).reshape(size, size, -1)


@contextlib.contextmanager
def _broken_otherwise(path):
  try:
    yield
  except (BrokenPicture, MemoryError):
    raise
  except UnidentifiedImageError:
    raise BrokenPicture("not a picture that Pillow reads" if os.path.getsize(path) else "empty file") from None
  except FileNotFoundError:
    raise BrokenPicture("no such file") from None
  except Exception as error:  # Pillow's readers raise errors of all kinds on broken files
    if getattr(error, "errno", None) in NOT_THE_FILES_FAULT:
      raise
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise BrokenPicture(" ".join(reason.split())) from None
