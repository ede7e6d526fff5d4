"""Random resized crops."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Augmentation, Key

ATTEMPTS = 10


def random_resized_crop(
  size: int | tuple[int, int] | None = None,
  *,
  area: tuple[float, float] = (0.08, 1.0),
  aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Augmentation:
  """Crops a box of random area and aspect ratio and resizes it by bilinear interpolation (arXiv:1409.4842).

  Downscaling is antialiased, as in Pillow and `tf.image.resize(..., antialias=True)`.

  Args:
    size: height and width of the result, or one number for both; by default those of the image.
    area: range of the crop's area, as a fraction of the image's, drawn uniformly.
    aspect: range of width over height; its logarithm is drawn uniformly. A box that does not fit is redrawn, up to ten
      draws; after that the largest centered box that fits is used.

  Returns:
    `augmentation(key, image) -> image` of that size.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from metajax.augment.image import random_resized_crop
    >>> augmentation = jax.jit(random_resized_crop(8, area=(0.5, 1.0)))
    >>> augmentation(jax.random.key(0), jnp.ones((12, 16, 3))).shape
    (8, 8, 3)
  """
  if not (len(area) == 2 and 0 < area[0] <= area[1] <= 1):
    raise ValueError(f"expected an area (low, high) with 0 < low <= high <= 1, got {area}")
  if not (len(aspect) == 2 and 0 < aspect[0] <= aspect[1] < math.inf):
    raise ValueError(f"expected an aspect (low, high) with 0 < low <= high, got {aspect}")
  sides = (size, size) if isinstance(size, int) else size
  if sides is not None and (len(sides) != 2 or min(sides) < 1):
    raise ValueError(f"expected a size of at least 1 pixel, got {size}")

  def augmentation(key, image):
    box = crop_box(key, image.shape[:2], area, aspect)
    return resized_part(image, box, sides or image.shape[:2])

  return augmentation


def crop_box(key: Key, sides: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float]) -> Array:
  """A random box in an image of `sides`: top, left, height and width in fractional pixels, `[4]`."""
  height, width = sides
  keys = jax.random.split(key, 4)
  areas = height * width * jax.random.uniform(keys[0], (ATTEMPTS,), minval=area[0], maxval=area[1])
  ratios = jnp.exp(jax.random.uniform(keys[1], (ATTEMPTS,), minval=math.log(aspect[0]), maxval=math.log(aspect[1])))
  tall, wide = jnp.sqrt(areas / ratios), jnp.sqrt(areas * ratios)
  fits = (tall <= height) & (wide <= width)
  first = jnp.argmax(fits)
  ratio = min(max(width / height, aspect[0]), aspect[1])
  largest = jnp.array([min(height, width / ratio), min(width, height * ratio)])
  part = jnp.where(fits.any(), jnp.stack([tall[first], wide[first]]), largest)
  corner = jnp.stack([jax.random.uniform(keys[2]), jax.random.uniform(keys[3])])
  corner = jnp.where(fits.any(), corner, 0.5) * (jnp.array([height, width]) - part)
  return jnp.concatenate([corner, part])


def resized_part(image: Array, box: Array, sides: tuple[int, int]) -> Array:
  """Crops `box`, `[top, left, height, width]`, from an image and resizes it to `sides`: `[*sides, channels]`.

  Columns are resized by a product with a matrix of mostly zero weights; rows, contiguous in memory, by a sum over the
  few rows that each new one reaches. On a CPU this is twice as fast as two products.
  """
  top, left, height, width = box.astype(image.dtype)
  rows, columns = image.shape[:2]
  middles, reach = _middles(left, width, sides[1])
  weights = _weights(jnp.arange(columns)[:, None], middles, reach).astype(image.dtype)
  image = jnp.einsum("rwc,wn->rcn", image, weights, precision=lax.Precision.HIGHEST)
  middles, reach = _middles(top, height, sides[0])
  most = math.ceil(2 * max(rows / sides[0], 1))  # integers in an open interval of that length
  taps = jnp.floor(middles - reach).astype(jnp.int32) + 1 + jnp.arange(most)[:, None]
  weights = _weights(taps, middles, reach, rows).astype(image.dtype)[..., None, None]
  part = sum(image[tap] * weight for tap, weight in zip(jnp.clip(taps, 0, rows - 1), weights, strict=True))
  return jnp.clip(part.swapaxes(1, 2), 0, 1)


def _middles(start, length, number):
  """The centers of `number` new pixels in old pixel coordinates, `[number]`, and the reach of each."""
  step = length / number
  return start + (jnp.arange(number) + 0.5) * step - 0.5, jnp.maximum(step, 1)


def _weights(old, middles, reach, number=math.inf):
  """The weights of old pixels in new ones, `[old, new]`; 0 outside of the image."""
  weights = jnp.where((old >= 0) & (old < number), jnp.maximum(0, 1 - jnp.abs(old - middles) / reach), 0)
  return weights / weights.sum(0)
