"""Views of an image that take away detail: noise, blur, a hole."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.augment.image.choices import check_range
from metajax.types import Array, Augmentation


def gaussian_noise(deviation: float = 0.1) -> Augmentation:
  """Gaussian noise of a standard deviation, cut to [0, 1].

  Raises:
    ValueError: if `deviation` is below 0.
  """
  if not deviation >= 0:
    raise ValueError(f"expected a deviation of at least 0, got {deviation}")

  def augmentation(key, image):
    return jnp.clip(image + deviation * jax.random.normal(key, image.shape, image.dtype), 0, 1)

  return augmentation


def gaussian_blur(deviation: tuple[float, float] = (0.1, 2.0)) -> Augmentation:
  """A Gaussian blur, of a standard deviation drawn from the first to the second, in pixels; the default is SimCLR's.

  The kernel ends at three of the largest deviation, and the image goes on beyond its border as in a mirror.

  Raises:
    ValueError: if it is not 0 < first <= second.
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
  """The image after a convolution along both axes with `kernel`, `[2 reach + 1]`; mirrored beyond its border."""
  reach, planes = len(kernel) // 2, jnp.moveaxis(image, -1, 0)  # a CPU is slow along a last axis of 3
  for axis in (1, 2):
    pads = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
    padded, length = jnp.pad(planes, pads, mode="symmetric"), planes.shape[axis]
    shifted = [jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(2 * reach + 1)]
    planes = sum(weight * part for weight, part in zip(kernel, shifted, strict=True))
  return jnp.moveaxis(planes, 0, -1)


def cutout(side: float = 0.5, *, fill: float = 0.0) -> Augmentation:
  """The image with a square hole about a pixel drawn anywhere, of which a part may be outside (arXiv:1708.04552).

  Args:
    side: of the hole, a share of the image's shorter side, 0 to 1.
    fill: what is in the hole.

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
