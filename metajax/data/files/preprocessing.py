"""The image preprocessing of published networks."""

from typing import get_args, get_type_hints

import numpy as np
from PIL import Image

from metajax import checks
from metajax.types import Preprocessing


def preprocess(image: np.ndarray | Image.Image, preprocessing: Preprocessing) -> np.ndarray:
  """Preprocesses an image for a published network.

  Args:
    image: uint8 `[height, width]`, `[height, width, 1]` or `[height, width, 3]`, or a `PIL.Image.Image`, whose
      transparency is dropped.
    preprocessing: preprocessing of the network, e.g. `load_clip(...).preprocessing`.

  Returns:
    The image, uint8 `[pixels, pixels, 3]`, 0 to 255.

  Raises:
    ValueError: if the image has another shape or type, or a value of `preprocessing` is out of range.
  """
  check_preprocessing(preprocessing)
  image = image if isinstance(image, Image.Image) else _of_array(image)
  image = image.convert("RGB")
  side = preprocessing.side or preprocessing.pixels
  size = _size(image.size, side, preprocessing.resize)
  if max(size) > _MOST * max(side, preprocessing.pixels):
    raise ValueError(f"expected an image of a usual shape, got {image.width} x {image.height} pixels")
  image = image.resize(size, Image.Resampling[preprocessing.interpolation.upper()])
  return np.asarray(_middle(image, preprocessing))


_MOST = 1000  # largest ratio of the sides: a line of pixels would be resized to a gigabyte


def check_preprocessing(preprocessing: Preprocessing):
  """Checks the values of a record, which may have been made by hand.

  Raises:
    ValueError: if a value is out of range; the message quotes it.
    TypeError: if `preprocessing` is not a `Preprocessing`.
  """
  checks.record("preprocessing", preprocessing, Preprocessing)
  for name in ("pixels", *(["side"] if preprocessing.side is not None else [])):
    checks.count(f"the preprocessing's {name}", getattr(preprocessing, name))
  kinds = get_type_hints(Preprocessing)
  for name in ("resize", "interpolation", "middle"):
    checks.choice(f"the preprocessing's {name}", getattr(preprocessing, name), get_args(kinds[name]))
  checks.count("the preprocessing's fill", preprocessing.fill, 0, 255)


def _of_array(image):
  pixels = np.asarray(image)
  fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (1, 3))
  if pixels.dtype != np.uint8 or not fits or not pixels.size:
    raise ValueError(f"expected an image uint8 [height, width, 1 or 3], got {checks.describe(pixels)}")
  return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _size(size, side, resize):
  """(width, height) after resizing, rounded as in torchvision and open_clip."""
  width, height = size
  if resize == "squash":
    return side, side
  if resize == "longest":
    ratio = max(height / side, width / side)
    return max(1, round(width / ratio)), max(1, round(height / ratio))
  short = min(width, height)
  return tuple(int(side * of / short) for of in size)


def _middle(image, preprocessing):
  """The center crop of `pixels` x `pixels`, padded with `fill` if the image is smaller."""
  side, (width, height) = preprocessing.pixels, image.size
  if width < side or height < side:
    canvas = Image.new("RGB", (max(width, side), max(height, side)), (preprocessing.fill,) * 3)
    canvas.paste(image, (max(0, side - width) // 2, max(0, side - height) // 2))
    image = canvas
  halves = [(of - side) / 2 for of in image.size]
  left, top = (round(half) if preprocessing.middle == "even" else int(half) for half in halves)
  return image.crop((left, top, left + side, top + side))
