"""Tiles of an image, cut so that neither their borders nor their colors say where they were."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Key

LEAST = 2  # pixels of a tile's side


def tiles(key: Key, image: Array, grid: int = 3, *, gap: int = 2, jitter: int = 2, normalize: bool = True) -> Array:
  """The tiles of an image in reading order, `[h, w, c] -> [grid^2, side, side, c]`.

  The image's middle is cut into `grid x grid` square cells, and from each a tile, at a place of its own that is drawn
  uniformly: between any two there are `gap` pixels at least, so that lines do not run on from one to the other, and
  nothing fits at the pixel (arXiv:1505.05192, 1603.09246).

  Args:
    key: of the places.
    image: `[h, w, c]`.
    grid: cells along a side.
    gap: least number of pixels between tiles.
    jitter: how many pixels a tile may be moved, along either axis.
    normalize: each tile and channel to mean 0 and deviation 1, so that brightness and chromatic aberration, which
      fall off from the middle, say less.

  Raises:
    ValueError: if an argument is out of range, or a tile would have fewer than two pixels along a side.
  """
  places, side = _corners(image.shape, grid, gap, jitter)
  found = _cut(image, places + jax.random.randint(key, (grid**2, 2), 0, jitter + 1), side)
  return normalized(found) if normalize else found


def middle_tiles(grid: int = 3, *, gap: int = 2, jitter: int = 2) -> Callable[[Array], Array]:
  """`look(images)`, `[n, h, w, c] -> [n, grid^2, side, side, c]`: the same tiles, each in the middle of its places.

  As an encoder of tiles is to see a whole image, in the end: `learners.pretext(..., look=middle_tiles())`.
  Arguments and errors are those of `tiles`.
  """

  def look(images):
    places, side = _corners(images.shape[1:], grid, gap, jitter)
    return jax.vmap(lambda image: _cut(image, places + jitter // 2, side))(images)

  return look


def _corners(shape, grid, gap, jitter):
  """The upper left corner of the places of each tile, `[grid^2, 2]`, and a tile's side."""
  if grid < 2 or gap < 0 or jitter < 0:
    raise ValueError(f"expected a grid of at least 2, and a gap and jitter of at least 0, got {grid}, {gap}, {jitter}")
  height, width = shape[:2]
  cell = min(height, width) // grid
  side = cell - gap - jitter
  if side < LEAST:
    given = f"cells of {cell} pixels, a gap of {gap} and jitter of {jitter}"
    raise ValueError(f"expected tiles of at least {LEAST} pixels a side, got {given}")
  start = jnp.array([(height - grid * cell) // 2 + gap // 2, (width - grid * cell) // 2 + gap // 2])
  return jnp.stack(jnp.divmod(jnp.arange(grid**2), grid), -1) * cell + start, side


def _cut(image, places, side):
  size = (side, side, image.shape[-1])
  return jax.vmap(lambda place: lax.dynamic_slice(image, (*place, 0), size))(places)


def normalized(found: Array) -> Array:
  """Each tile `[..., side, side, c]` and channel with mean 0 and deviation 1; an even one is 0."""
  centered = found - found.mean((-3, -2), keepdims=True)
  return centered / (jnp.sqrt(jnp.square(centered).mean((-3, -2), keepdims=True)) + 1e-3)
