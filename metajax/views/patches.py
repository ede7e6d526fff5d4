"""Pictures as square patches, and back."""

import jax.numpy as jnp

from metajax.types import Array


def patches_of(pictures: Array, patch: int) -> Array:
  """The patches of pictures in reading order, pixel after pixel: `[n, h, w, c] -> [n, patches, patch^2 c]`.

  Raises:
    ValueError: if the pictures do not divide into such patches.
  """
  n, height, width, channels = pictures.shape
  if patch < 1 or height % patch or width % patch:
    raise ValueError(f"expected pictures that divide into patches of {patch}, got {height} x {width} pixels")
  cut = pictures.reshape(n, height // patch, patch, width // patch, patch, channels)
  return cut.swapaxes(2, 3).reshape(n, -1, patch * patch * channels)


def pictures_of(patches: Array, patch: int) -> Array:
  """Square pictures of their patches: `[n, patches, patch^2 c] -> [n, h, h, c]`."""
  n, count, values = patches.shape
  side = round(count**0.5)
  whole = patches.reshape(n, side, side, patch, patch, values // patch**2).swapaxes(2, 3)
  return jnp.reshape(whole, (n, side * patch, side * patch, -1))
