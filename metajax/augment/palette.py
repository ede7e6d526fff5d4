"""Images as tokens, one per pixel: the index of the nearest palette color (Chen et al. 2020, image GPT)."""

import math

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.types import AnyArray, Array

NO_COLOR = -2  # losses reject it; -1 is padding


def to_palette(images: AnyArray, palette: AnyArray, size: int) -> Array:
  """The index of each pixel's nearest palette color, in reading order: `[n, h, w, c] -> integers [n, size^2]`.

  Images are first resized to `size x size` by linear interpolation, with antialiasing.

  Args:
    images: floating `[n, h, w, c]` in [0, 1].
    palette: colors `[colors, c]` in [0, 1], e.g. from `data.fit_palette`.
    size: side in pixels.

  Returns:
    Palette indices, int32 `[n, size^2]`; -2, which is no color, where a pixel is NaN.

  Raises:
    ValueError: if images are not floating `[n, h, w, c]` in [0, 1], the palette is not finite, is empty or has a
      different number of channels, or the size is below 1.
  """
  _check_palette(palette)
  checks.floating("images", images, "n", "height", "width", palette.shape[-1])
  checks.values("images", images, 0, 1)
  checks.count("size", size)
  palette = jnp.asarray(palette, jnp.promote_types(palette.dtype, jnp.float32))
  n, *_, channels = images.shape
  small = jax.image.resize(images, (n, size, size, channels), "linear", antialias=True)
  # |x - p|^2 without |x|^2, which all colors share.
  distances = jnp.square(palette).sum(-1) - 2 * jnp.einsum("nhwc,pc->nhwp", small, palette, precision="highest")
  tokens = jnp.where(jnp.isnan(distances).any(-1), NO_COLOR, jnp.argmin(distances, -1))
  return tokens.reshape(n, size * size).astype(jnp.int32)


def from_palette(tokens: AnyArray, palette: AnyArray) -> Array:
  """Images from palette indices: integers `[n, size^2] -> [n, size, size, c]` in [0, 1].

  Args:
    tokens: palette indices `[n, size^2]`.
    palette: colors `[colors, c]` in [0, 1].

  Returns:
    Images `[n, size, size, c]`.

  Raises:
    ValueError: if the number of tokens is not a square, or a token is not an index of the palette.
  """
  _check_palette(palette)
  checks.integers("tokens", tokens, "n", "pixels", low=0, high=len(palette))
  size = math.isqrt(tokens.shape[1])
  if size**2 != tokens.shape[1]:
    raise ValueError(f"expected tokens of square images, [n, size^2], got {list(tokens.shape)}")
  return jnp.asarray(palette)[jnp.asarray(tokens)].reshape(tokens.shape[0], size, size, palette.shape[-1])


def _check_palette(palette):
  checks.floating("a palette", palette, "colors", "c")
  if not palette.shape[0]:
    raise ValueError(f"expected a palette of at least 1 color, got an array of shape {list(palette.shape)}")
  checks.finite("a palette", palette)
