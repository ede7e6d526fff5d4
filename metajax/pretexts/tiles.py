"""Tiles of an image, cut so that neither borders nor colors give their positions away."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Key

LEAST = 2  # smallest side of a tile in pixels


def tiles(key: Key, image: Array, grid: int = 3, *, gap: int = 2, jitter: int = 2, normalize: bool = True) -> Array:
  """The tiles of an image in reading order, `[h, w, c] -> [grid^2, side, side, c]`.

  The center of the image is divided into `grid x grid` square cells. From each a tile is cut at a uniformly drawn
  offset. Any two tiles are at least `gap` pixels apart, so that lines do not continue from one to the next and borders
  do not match at the pixel (arXiv:1505.05192, 1603.09246).

  Args:
    key: key of the offsets.
    image: `[h, w, c]`.
    grid: cells along a side.
    gap: smallest distance between tiles in pixels.
    jitter: largest offset of a tile in pixels, along either axis.
    normalize: whether each tile and channel is normalized to mean 0 and deviation 1, which weakens the cues of
      vignetting and chromatic aberration.

  Returns:
    Tiles `[grid^2, side, side, c]`.

  Raises:
    ValueError: if an argument is out of range, or a tile would have fewer than two pixels along a side.
  """
  places, side = _corners(image.shape, grid, gap, jitter)
  found = _cut(image, places + jax.random.randint(key, (grid**2, 2), 0, jitter + 1), side)
  return normalized(found) if normalize else found


def middle_tiles(grid: int = 3, *, gap: int = 2, jitter: int = 2) -> Callable[[Array], Array]:
  """Tiles at their mean offsets, the deterministic version of `tiles` without normalization.

  An encoder of tiles sees a full image through it: `learners.pretext(..., look=middle_tiles())`. Arguments and
  exceptions are those of `tiles`.

  Returns:
    `look(images)`: `[n, h, w, c] -> [n, grid^2, side, side, c]`.
  """

  def look(images):
    places, side = _corners(images.shape[1:], grid, gap, jitter)
    return jax.vmap(lambda image: _cut(image, places + jitter // 2, side))(images)

  return look


def _corners(shape, grid, gap, jitter):
  """The upper left corner of each tile at offset 0, `[grid^2, 2]`, and the side of a tile."""
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
  """Normalizes each tile `[..., side, side, c]` and channel to mean 0 and deviation 1; constant tiles become 0."""
  centered = found - found.mean((-3, -2), keepdims=True)
  return centered / (jnp.sqrt(jnp.square(centered).mean((-3, -2), keepdims=True)) + 1e-3)
