"""In which order are the tiles of an image? (arXiv:1603.09246)"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from metajax.pretexts.tiles import tiles
from metajax.types import Examples, PretextFn

ALL = 9  # tiles, up to which all permutations are candidates


def jigsaw(
  permutations: int = 64, grid: int = 3, *, gap: int = 2, jitter: int = 2, normalize: bool = True, seed: int = 0
) -> PretextFn:
  """`pretext(key, images)`: the tiles of an image in one of some orders, labeled with which.

  Args:
    permutations: how many orders there are, far apart (`permutations_apart`).
    grid: tiles along a side.
    gap, jitter, normalize: as for `tiles`.
    seed: of the orders.

  Returns:
    `pretext`: `[n, h, w, c]` to `Examples` of `[n, grid^2, side, side, c]`, where tile `p[i]` of the image is at
    place `i`, and labels one-hot `[n, permutations]`, drawn uniformly.

  Raises:
    ValueError: as `permutations_apart`.
  """
  orders = jnp.asarray(permutations_apart(grid**2, permutations, seed))

  def pretext(key, images):
    def one(row, image):
      place, which = jax.random.split(jax.random.fold_in(key, row))
      found = tiles(place, image, grid, gap=gap, jitter=jitter, normalize=normalize)
      label = jax.random.randint(which, (), 0, permutations)
      return found[orders[label]], jax.nn.one_hot(label, permutations)

    return Examples(*jax.vmap(one)(jnp.arange(len(images)), images))

  return pretext


def permutations_apart(tiles: int, number: int, seed: int = 0) -> np.ndarray:
  """Permutations that differ in as many places as can be had: integers `[number, tiles]`.

  The first is drawn; each next one is, of all permutations, one whose least Hamming distance to those before is the
  largest, and of these the one whose distances sum to the most (1603.09246, algorithm 1, which looks at the sum alone).

  Args:
    tiles: 2 to 9.
    number: from 2 to all, `tiles!`.
    seed: of the first one.

  Raises:
    ValueError: if an argument is out of range.
  """
  if not 2 <= tiles <= ALL:
    raise ValueError(f"expected 2 to {ALL} tiles, got {tiles}")
  if not 2 <= number <= math.factorial(tiles):
    raise ValueError(f"expected 2 to {math.factorial(tiles)} permutations of {tiles} tiles, got {number}")
  every = np.array(list(itertools.permutations(range(tiles))), np.int8)
  places = np.ascontiguousarray(every.T)  # a place of all permutations after the other
  chosen = [int(np.random.default_rng(seed).integers(len(every)))]
  least, sums = np.full(len(every), tiles, np.int8), np.zeros(len(every), np.int32)
  while len(chosen) < number:
    distance = np.zeros(len(every), np.int8)
    for place, tile in zip(places, every[chosen[-1]], strict=True):
      distance += place != tile
    least, sums = np.minimum(least, distance), sums + distance
    chosen.append(int(np.argmax(least * np.int32(tiles * number + 1) + sums)))
  return every[chosen].astype(np.int32)


def least_hamming_distance(permutations: np.ndarray) -> int:
  """In how many places any two of some permutations `[number, tiles]` differ at least."""
  differ = (permutations[:, None] != permutations[None]).sum(-1)
  return int(differ[~np.eye(len(permutations), dtype=bool)].min())
