"""Elastic distortion."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.augment.image.geometry import sample
from metajax.types import Augmentation


def elastic(strength: float = 0.03, smoothness: float = 0.15, *, fill: float = 0.0) -> Augmentation:
  """Displaces every pixel smoothly at random (Simard, Steinkraus and Platt 2003), with bilinear interpolation.

  Args:
    strength: root mean square of the displacement along each axis, as a fraction of the image's height.
    smoothness: standard deviation of the Gaussian that smooths white noise into displacements, likewise a fraction.
    fill: value outside of the image.

  Returns:
    `augmentation(key, image) -> image` of the same shape.

  Raises:
    ValueError: if `strength` is below 0 or `smoothness` not above 0.
  """
  if not strength >= 0:
    raise ValueError(f"expected a strength of at least 0, got {strength}")
  if not smoothness > 0:
    raise ValueError(f"expected a smoothness above 0, got {smoothness}")

  def augmentation(key, image):
    height, width = image.shape[:2]
    kernel = _gaussian(smoothness * height)
    # Noise on a wider field, so that displacements have one distribution at the border and in the middle.
    around = len(kernel) - 1
    field = jax.random.normal(key, (2, height + around, width + around), image.dtype)
    for axis in (1, 2):
      field = jnp.apply_along_axis(lambda line: jnp.convolve(line, kernel, mode="valid"), axis, field)
    field *= strength * height / np.square(kernel).sum()  # the divisor: the noise's deviation after smoothing
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return sample(image, y + field[0], x + field[1], fill)

  return augmentation


def _gaussian(deviation: float) -> np.ndarray:
  """A normalized Gaussian kernel at integers, up to three deviations."""
  reach = max(1, int(np.ceil(3 * deviation)))
  values = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / deviation))
  return (values / values.sum()).astype(np.float32)
