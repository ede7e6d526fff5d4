"""Pictures as tokens, one a pixel: the nearest colour of a palette (arXiv: Chen et al. 2020, image GPT)."""

import jax
import jax.numpy as jnp

from metajax.types import Array


def quantized(pictures: Array, palette: Array, size: int) -> Array:
  """The number of each pixel's nearest colour, in reading order: `[n, h, w, c] -> integers [n, size^2]`.

  Pictures are brought to `size x size` first, by linear interpolation that is smoothed where it makes them smaller.

  Args:
    pictures: floating `[n, h, w, c]` in [0, 1].
    palette: `[colours, c]` in [0, 1], such as `data.learn_palette` finds.
    size: pixels along a side.

  Raises:
    ValueError: if pictures are not floating `[n, h, w, c]`, or the palette has other channels.
  """
  if pictures.ndim != 4 or not jnp.issubdtype(pictures.dtype, jnp.floating) or pictures.shape[-1] != palette.shape[-1]:
    given = f"{pictures.dtype} {list(pictures.shape)}"
    raise ValueError(f"expected floating pictures [n, height, width, {palette.shape[-1]}] in [0, 1], got {given}")
  n, *_, channels = pictures.shape
  small = jax.image.resize(pictures, (n, size, size, channels), "linear", antialias=True)
  # |x - p|^2 without the part that all colours share.
  distances = jnp.square(palette).sum(-1) - 2 * jnp.einsum("nhwc,pc->nhwp", small, palette, precision="highest")
  return jnp.argmin(distances, -1).reshape(n, size * size).astype(jnp.int32)


def coloured(tokens: Array, palette: Array) -> Array:
  """Pictures of colours' numbers: integers `[n, size^2] -> [n, size, size, c]` in [0, 1]."""
  size = round(tokens.shape[1] ** 0.5)
  return jnp.asarray(palette)[tokens].reshape(len(tokens), size, size, -1)
