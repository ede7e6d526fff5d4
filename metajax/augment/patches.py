"""Images as square patches, and back."""

import math

import jax.numpy as jnp

from metajax import checks
from metajax.types import AnyArray


def patchify(images: AnyArray, patch: int) -> AnyArray:
  """Cuts images into patches, both patches and their pixels in reading order.

  Args:
    images: real numbers `[n, h, w, c]`.
    patch: side of a patch in pixels.

  Returns:
    Patches `[n, patches, patch^2 c]`.

  Raises:
    ValueError: if images are not real numbers `[n, h, w, c]`, or do not divide into patches of that side.

  Example:
    >>> import numpy as np
    >>> from metajax.augment.patches import patchify
    >>> patchify(np.ones((2, 8, 12, 3)), 4).shape
    (2, 6, 48)
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
  """Puts patches of square images back together, the inverse of `patchify`.

  Args:
    patches: real numbers `[n, patches, patch^2 c]`.
    patch: side of a patch in pixels.

  Returns:
    Square images `[n, h, h, c]`.

  Raises:
    ValueError: if patches are not real numbers `[n, patches, patch^2 c]`, or their number is not a square.

  Example:
    >>> import numpy as np
    >>> from metajax.augment.patches import patchify, unpatchify
    >>> images = np.arange(64.0).reshape(1, 8, 8, 1)
    >>> bool((unpatchify(patchify(images, 4), 4) == images).all())
    True
  """
  checks.count("patch", patch)
  checks.real("patches", patches, "n", "patches", "values")
  n, count, values = patches.shape
  side, channels = math.isqrt(count), values // patch**2
  if side**2 != count or channels * patch**2 != values:
    raise ValueError(f"expected a square of patches of {patch} x {patch} pixels, got {count} of {values} values")
  whole = patches.reshape(n, side, side, patch, patch, channels).swapaxes(2, 3)
  return jnp.reshape(whole, (n, side * patch, side * patch, channels))
