"""Images as square patches, and back."""

import math

import jax.numpy as jnp

from metajax import checks
from metajax.types import AnyArray


def patchify(images: AnyArray, patch: int) -> AnyArray:
  """The patches of images in reading order, pixel after pixel: `[n, h, w, c] -> [n, patches, patch^2 c]`.

  Raises:
    ValueError: if images are no real numbers `[n, h, w, c]`, or do not divide into such patches.
  """
  checks.count("patch", patch)
  checks.real("images", images, "n", "h", "w", "c")
  n, height, width, channels = images.shape
  if height % patch or width % patch:
    raise ValueError(f"expected images that divide into patches of {patch}, got {height} x {width} pixels")
  rows, columns = height // patch, width // patch
  cut = images.reshape(n, rows, patch, columns, patch, channels)
  return cut.swapaxes(2, 3).reshape(n, rows * columns, patch * patch * channels)


def unpatchify(patches: AnyArray, patch: int) -> AnyArray:
  """Square images of their patches: `[n, patches, patch^2 c] -> [n, h, h, c]`.

  Raises:
    ValueError: if patches are no real numbers `[n, patches, patch^2 c]`, or not as many as a square has.
  """
  checks.count("patch", patch)
  checks.real("patches", patches, "n", "patches", "values")
  n, count, values = patches.shape
  side, channels = math.isqrt(count), values // patch**2
  if side**2 != count or channels * patch**2 != values:
    raise ValueError(f"expected a square of patches of {patch} x {patch} pixels, got {count} of {values} values")
  whole = patches.reshape(n, side, side, patch, patch, channels).swapaxes(2, 3)
  return jnp.reshape(whole, (n, side * patch, side * patch, channels))
