"""Relative patch prediction: which of its eight neighbors is a patch? (arXiv:1505.05192)"""

import jax
import jax.numpy as jnp

from metajax.pretexts.tiles import tiles
from metajax.types import Examples, PretextFn

NEIGHBORS = (0, 1, 2, 3, 5, 6, 7, 8)  # neighbors of the middle one of nine tiles, in reading order


def relative_patch(*, gap: int = 2, jitter: int = 2, normalize: bool = True) -> PretextFn:
  """The middle tile of nine and one of its neighbors, labeled with the neighbor's position.

  Args:
    gap, jitter, normalize: as for `tiles`.

  Returns:
    `pretext(key, images)`: `[n, h, w, c]` to `Examples` of `[n, 2, side, side, c]`, the middle tile first, and labels
    one-hot `[n, 8]`, drawn uniformly. Positions are numbered in reading order from the upper left.
  """

  def pretext(key, images):
    def one(row, image):
      place, which = jax.random.split(jax.random.fold_in(key, row))
      found = tiles(place, image, 3, gap=gap, jitter=jitter, normalize=normalize)
      label = jax.random.randint(which, (), 0, len(NEIGHBORS))
      return jnp.stack([found[4], found[jnp.array(NEIGHBORS)[label]]]), jax.nn.one_hot(label, len(NEIGHBORS))

    return Examples(*jax.vmap(one)(jnp.arange(len(images)), images))

  return pretext
