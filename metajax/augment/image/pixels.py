"""Augmentations that remove detail: noise, blur, cutout."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.augment.image.choices import check_range
from metajax.types import Array, Augmentation


def gaussian_noise(deviation: float = 0.1) -> Augmentation:
  """Adds Gaussian noise; values are clipped to [0, 1].

  Args:
    deviation: standard deviation of the noise, at least 0.

  Returns:
    `augmentation(key, image) -> image`.

  Raises:
    ValueError: if `deviation` is below 0.
  """
  if not deviation >= 0:
    raise ValueError(f"expected a deviation of at least 0, got {deviation}")

  def augmentation(key, image):
    return jnp.clip(image + deviation * jax.random.normal(key, image.shape, image.dtype), 0, 1)

  return augmentation


def gaussian_blur(deviation: tuple[float, float] = (0.1, 2.0)) -> Augmentation:
  """Blurs by a Gaussian of random standard deviation; the default range is SimCLR's.

  The kernel ends at three times the largest deviation. The image is mirrored beyond its border.

  Args:
    deviation: range of the standard deviation in pixels, drawn uniformly.

  Returns:
    `augmentation(key, image) -> image`.

  Raises:
    ValueError: if it is not 0 < low <= high.
  """
  if not (len(deviation) == 2 and 0 < deviation[0] <= deviation[1] < np.inf):
    raise ValueError(f"expected deviations (low, high) with 0 < low <= high, got {deviation}")
  reach = int(np.ceil(3 * deviation[1]))

  def augmentation(key, image):
    drawn = jax.random.uniform(key, (), image.dtype, *deviation)
    kernel = jnp.exp(-0.5 * jnp.square(jnp.arange(-reach, reach + 1, dtype=image.dtype) / drawn))
    return blurred(image, kernel / kernel.sum())

  return augmentation


def blurred(image: Array, kernel: Array) -> Array:
  """Convolves an image with `kernel`, `[2 reach + 1]`, along both axes; the image is mirrored beyond its border."""
  reach, planes = len(kernel) // 2, jnp.moveaxis(image, -1, 0)  # a CPU is slow along a last axis of 3
  for axis in (1, 2):
    pads = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
    padded, length = jnp.pad(planes, pads, mode="symmetric"), planes.shape[axis]
    shifted = [jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(2 * reach + 1)]
    planes = sum(weight * part for weight, part in zip(kernel, shifted, strict=True))
  return jnp.moveaxis(planes, 0, -1)


def cutout(side: float = 0.5, *, fill: float = 0.0) -> Augmentation:
  """Cuts a square hole about a uniformly drawn pixel; the hole may extend beyond the border (arXiv:1708.04552).

  Args:
    side: side of the hole as a fraction of the image's shorter side, 0 to 1.
    fill: value in the hole.

  Returns:
    `augmentation(key, image) -> image`.

  Raises:
    ValueError: if `side` is out of range.
  """
  check_range("side", side, 0, 1)

  def augmentation(key, image):
    height, width = image.shape[:2]
    y, x = (jax.random.randint(k, (), 0, n) for k, n in zip(jax.random.split(key), (height, width), strict=True))
    hole = round(side * min(height, width))

    def inside(n, middle):
      return (jnp.arange(n) >= middle - hole // 2) & (jnp.arange(n) < middle - hole // 2 + hole)

    return jnp.where((inside(height, y)[:, None] & inside(width, x))[..., None], fill, image)

  return augmentation
