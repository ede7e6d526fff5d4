"""Random resized crops cut from original files: a JPEG is decoded within the crop alone."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.image_file import MOST_PIXELS, UnreadableImage, read_original, resized
from metajax.data.files.jpeg import JpegHeader, jpeg_header

ATTEMPTS = 10
DRAWS = 2 * ATTEMPTS + 2  # uniform numbers a view: area and aspect of each attempt, and the place
LARGEST_SIDE = 2**14  # of a crop, in pixels


class RandomCrop(NamedTuple):
  """Random crops of the original image, resized to a square with antialiasing (arXiv:1409.4842).

  Boxes are those of torchvision's `RandomResizedCrop`: whole pixels, up to ten attempts, then the largest centered box
  of an aspect ratio in range. Along an axis that shrinks, each new pixel is the mean over the area it covers; along one
  that grows, pixels are interpolated linearly.

  Attributes:
    size: side of the resized crop, in pixels.
    area: range of the crop's area, as a fraction of the image's, drawn uniformly.
    aspect: range of width over height; its logarithm is drawn uniformly.
    views: crops of each image: 1, or 2 that make a `Pair`.
  """

  size: int = 224
  area: tuple[float, float] = (0.08, 1.0)
  aspect: tuple[float, float] = (3 / 4, 4 / 3)
  views: int = 1


def check_crop(crop: RandomCrop):
  """Checks the values of a `RandomCrop`.

  Raises:
    TypeError: if it is not one.
    ValueError: if a value is out of range; the message quotes it.
  """
  checks.record("crop", crop, RandomCrop)
  checks.count("the crop's size", crop.size, 1, LARGEST_SIDE)
  checks.count("the crop's views", crop.views, 1, 2)
  for name, most in (("area", 1.0), ("aspect", np.inf)):
    given = getattr(crop, name)
    if len(given) != 2 or not 0 < given[0] <= given[1] <= most or not np.isfinite(given[1]):
      above = " <= 1" if name == "area" else ""
      raise ValueError(f"expected the crop's {name} (low, high) with 0 < low <= high{above}, got {given}")


def crop_boxes(draws: np.ndarray, height: np.ndarray | int, width: np.ndarray | int, crop: RandomCrop) -> np.ndarray:
  """The boxes of crops of images: top, left, height and width in pixels, int32 `[..., 4]`.

  Args:
    draws: uniform numbers in [0, 1), `[..., DRAWS]`.
    height, width: sizes of the images, of a shape that broadcasts to `[...]`.
    crop: ranges of area and aspect.
  """
  draws, (low, high) = np.asarray(draws, np.float64), np.log(crop.aspect)
  height, width = (np.broadcast_to(np.asarray(side, np.float64), draws.shape[:-1]) for side in (height, width))
  areas = (height * width)[..., None] * (crop.area[0] + draws[..., :ATTEMPTS] * (crop.area[1] - crop.area[0]))
  aspects = np.exp(low + draws[..., ATTEMPTS : 2 * ATTEMPTS] * (high - low))
  tall, wide = np.rint(np.sqrt(areas / aspects)), np.rint(np.sqrt(areas * aspects))
  fits = (tall > 0) & (tall <= height[..., None]) & (wide > 0) & (wide <= width[..., None])
  first, found = fits.argmax(-1)[..., None], fits.any(-1)
  largest = _largest(height, width, crop.aspect)
  tall, wide = (
    np.where(found, np.take_along_axis(sides, first, -1)[..., 0], most)
    for sides, most in zip((tall, wide), largest, strict=True)
  )
  top = np.where(found, np.floor(draws[..., -2] * (height - tall + 1)), (height - tall) // 2)
  left = np.where(found, np.floor(draws[..., -1] * (width - wide + 1)), (width - wide) // 2)
  return np.stack([top, left, tall, wide], -1).astype(np.int32)


def _largest(height, width, aspect):
  """The heights and widths of the largest boxes of an aspect ratio in range."""
  tall = np.where(width / height < aspect[0], np.maximum(1, np.rint(width / aspect[0])), height)
  wide = np.where(width / height > aspect[1], np.maximum(1, np.rint(height * aspect[1])), width)
  return tall, wide


def read_crops(
  contents: Sequence[bytes], draws: np.ndarray, crop: RandomCrop, channels: int, out: np.ndarray
) -> dict[int, Exception]:
  """Reads crops of image files.

  An upright gray or color JPEG is decoded within each crop alone; any other file is decoded whole, and turned upright.

  Args:
    contents: bytes of each file, `n` of them.
    draws: uniform numbers in [0, 1), `[n, views, DRAWS]`.
    crop: the crops.
    channels: 1 or 3.
    out: array uint8 `[n, views, size, size, channels]` that receives the crops.

  Returns:
    `{number: UnreadableImage}` of the files that cannot be decoded.
  """
  headers = [jpeg_header(content) for content in contents]
  plain = [i for i, header in enumerate(headers) if header and _is_plain(header)]
  decoded = _of_jpegs(contents, headers, draws, crop, channels, plain, out) if plain else set()
  unreadable = {}
  for i in sorted(set(range(len(contents))) - decoded):
    try:
      out[i] = _of_whole(contents[i], draws[i], crop, channels)
    except UnreadableImage as error:
      unreadable[i] = error
  return unreadable


def _is_plain(header: JpegHeader) -> bool:
  """Whether crops are decoded alone; a file of no pixels or too many, as a header may lie, is refused as a whole."""
  decoded = 0 < header.height * header.width <= MOST_PIXELS
  return decoded and header.orientation == 1 and header.components in (1, 3)


def _of_jpegs(contents, headers, draws, crop, channels, plain, out) -> set[int]:
  """Decodes the crops of JPEGs into `out`; returns the numbers of those that could be."""
  sides = np.array([headers[i][:2] for i in plain])[:, :, None]
  boxes = crop_boxes(draws[plain], sides[:, 0], sides[:, 1], crop)
  decode = _decoder(crop.size, channels)

  def into(which):
    try:
      with tf.experimental.function_executor_type("SINGLE_THREADED_EXECUTOR"):  # the chunks have threads of their own
        found = decode([contents[plain[k]] for k in which], boxes[which])
    except tf.errors.OpError:
      return False
    out[[plain[k] for k in which]] = np.asarray(memoryview(found))  # without a second copy
    return True

  if into(range(len(plain))):
    return set(plain)
  return {plain[k] for k in range(len(plain)) if into([k])}


@functools.cache
def _decoder(size: int, channels: int) -> Callable:
  """`(contents [n], boxes [n, views, 4]) -> uint8 [n, views, size, size, channels]`, compiled once by TensorFlow."""

  def one(content, box):
    part = tf.image.decode_and_crop_jpeg(content, box, channels=channels, dct_method="INTEGER_ACCURATE")[None]
    part = tf.raw_ops.ResizeArea(images=part, size=tf.minimum(tf.shape(part)[1:3], size))
    part = tf.raw_ops.ResizeBilinear(images=part, size=[size, size], half_pixel_centers=True)
    return tf.cast(tf.round(part[0]), tf.uint8)

  image = tf.TensorSpec((size, size, channels), tf.uint8)

  @tf.function(
    input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None, 4], tf.int32)], autograph=False
  )
  def decode(contents, boxes):
    views = tf.shape(boxes)[1]
    each = (tf.repeat(contents, views), tf.reshape(boxes, (-1, 4)))
    found = tf.map_fn(lambda x: one(*x), each, fn_output_signature=image, parallel_iterations=1)
    return tf.reshape(found, (-1, views, size, size, channels))

  return decode


def _of_whole(content, draws, crop, channels):
  image = read_original(content, channels=channels)
  boxes = crop_boxes(draws, image.height, image.width, crop).tolist()
  return np.stack(
    [resized(image.crop((left, top, left + wide, top + tall)), crop.size) for top, left, tall, wide in boxes]
  )
