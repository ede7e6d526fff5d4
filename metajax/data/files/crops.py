"""Random resized crops cut from original files: a JPEG is decoded within the crop alone."""

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.image_file import read_original
from metajax.data.files.jpeg import jpeg_header

ATTEMPTS = 10
DRAWS = 2 * ATTEMPTS + 2  # uniform numbers a view: area and aspect of each attempt, and the place
MOST_PIXELS = 2**14  # largest side of a crop


class RandomCrop(NamedTuple):
  """Random crops of the original image, resized to a square with antialiasing (arXiv:1409.4842).

  Boxes are those of torchvision's `RandomResizedCrop`: whole pixels, up to ten attempts, then the largest centered box
  of an aspect ratio in range.

  Attributes:
    size: side of the resized crop, in pixels.
    area: range of the crop's area, as a fraction of the image's, drawn uniformly.
    aspect: range of width over height; its logarithm is drawn uniformly.
    views: crops of each image: 1, or 2 that make a `Pair`.
    interpolation: "bilinear" or "bicubic".
  """

  size: int = 224
  area: tuple[float, float] = (0.08, 1.0)
  aspect: tuple[float, float] = (3 / 4, 4 / 3)
  views: int = 1
  interpolation: Literal["bilinear", "bicubic"] = "bilinear"


def check_crop(crop: RandomCrop):
  """Checks the values of a `RandomCrop`.

  Raises:
    TypeError: if it is not one.
    ValueError: if a value is out of range; the message quotes it.
  """
  checks.record("crop", crop, RandomCrop)
  checks.count("the crop's size", crop.size, 1, MOST_PIXELS)
  checks.count("the crop's views", crop.views, 1, 2)
  checks.choice("the crop's interpolation", crop.interpolation, ("bilinear", "bicubic"))
  for name, most in (("area", 1.0), ("aspect", np.inf)):
    given = getattr(crop, name)
    if len(given) != 2 or not 0 < given[0] <= given[1] <= most or not np.isfinite(given[1]):
      above = " <= 1" if name == "area" else ""
      raise ValueError(f"expected the crop's {name} (low, high) with 0 < low <= high{above}, got {given}")


def crop_boxes(draws: np.ndarray, height: int, width: int, crop: RandomCrop) -> np.ndarray:
  """The boxes of crops of an image: top, left, height and width in pixels, int32 `[views, 4]`.

  Args:
    draws: uniform numbers in [0, 1), `[views, DRAWS]`.
    height, width: size of the image.
    crop: ranges of area and aspect.
  """
  draws = np.asarray(draws, np.float64)
  low, high = np.log(crop.aspect)
  areas = height * width * (crop.area[0] + draws[:, :ATTEMPTS] * (crop.area[1] - crop.area[0]))
  aspects = np.exp(low + draws[:, ATTEMPTS : 2 * ATTEMPTS] * (high - low))
  tall, wide = np.rint(np.sqrt(areas / aspects)), np.rint(np.sqrt(areas * aspects))
  fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
  views, first, found = np.arange(len(draws)), fits.argmax(1), fits.any(1)
  largest = _largest(height, width, crop.aspect)
  tall = np.where(found, tall[views, first], largest[0])
  wide = np.where(found, wide[views, first], largest[1])
  top = np.where(found, np.floor(draws[:, -2] * (height - tall + 1)), (height - tall) // 2)
  left = np.where(found, np.floor(draws[:, -1] * (width - wide + 1)), (width - wide) // 2)
  return np.stack([top, left, tall, wide], 1).astype(np.int32)


def _largest(height, width, aspect):
  """The height and width of the largest box of an aspect ratio in range."""
  if width / height < aspect[0]:
    return max(1, round(width / aspect[0])), width
  if width / height > aspect[1]:
    return height, max(1, round(height * aspect[1]))
  return height, width


def read_crops(content: bytes, draws: np.ndarray, crop: RandomCrop, channels: int) -> np.ndarray:
  """Crops of an image file's bytes, uint8 `[views, size, size, channels]`.

  An upright gray or color JPEG is decoded within each crop alone; any other file is decoded whole, and turned upright.

  Raises:
    UnreadableImage: if the file cannot be decoded.
  """
  header = jpeg_header(content)
  if header is not None and header.orientation == 1 and header.components in (1, 3) and header.height:
    try:
      return _of_jpeg(content, crop_boxes(draws, header.height, header.width, crop), crop, channels)
    except tf.errors.OpError:
      pass  # Pillow tells what is wrong with it
  image = read_original(content, channels=channels)
  boxes = crop_boxes(draws, image.height, image.width, crop)
  parts = [image.crop((left, top, left + wide, top + tall)) for top, left, tall, wide in boxes.tolist()]
  return np.stack([_resized(part, crop, channels) for part in parts])


def _of_jpeg(content, boxes, crop, channels):
  found = np.empty((len(boxes), crop.size, crop.size, channels), np.uint8)
  for view, box in enumerate(boxes):
    part = tf.image.decode_and_crop_jpeg(content, box, channels=channels, dct_method="INTEGER_ACCURATE").numpy()
    found[view] = _resized(Image.fromarray(part.squeeze(-1) if channels == 1 else part), crop, channels)
  return found


def _resized(part: Image.Image, crop: RandomCrop, channels: int) -> np.ndarray:
  image = part.resize((crop.size, crop.size), Image.Resampling[crop.interpolation.upper()])
  return np.asarray(image).reshape(crop.size, crop.size, channels)
