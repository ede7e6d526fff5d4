"""Jigsaw puzzles: predict the permutation of an image's tiles (arXiv:1603.09246)."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from metajax.pretexts.tiles import tiles
from metajax.types import Examples, PretextFn

ALL = 9  # largest number of tiles, since all permutations are candidates


def jigsaw(
  permutations: int = 64, grid: int = 3, *, gap: int = 2, jitter: int = 2, normalize: bool = True, seed: int = 0
) -> PretextFn:
  """The tiles of an image, permuted and labeled with the permutation.

  Args:
    permutations: number of permutations, chosen far apart (`permutations_apart`).
    grid: tiles along a side.
    gap, jitter, normalize: as for `tiles`.
    seed: seed of the permutations.

  Returns:
    `pretext(key, images)`: `[n, h, w, c]` to `Examples` of `[n, grid^2, side, side, c]`, where tile `p[i]` of the image
    is at place `i`, and labels one-hot `[n, permutations]`, drawn uniformly.

  Raises:
    ValueError: as for `permutations_apart`.
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
  """Permutations with large Hamming distances, chosen greedily.

  The first is random. Each next one maximizes the smallest Hamming distance to those before; ties are broken by the
  largest sum of distances (arXiv:1603.09246, algorithm 1, uses only the sum).

  Args:
    tiles: number of tiles, 2 to 9.
    number: number of permutations, 2 to `tiles!`.
    seed: seed of the first permutation.

  Returns:
    Permutations, int32 `[number, tiles]`.

  Raises:
    ValueError: if an argument is out of range.
  """
  if not 2 <= tiles <= ALL:
    raise ValueError(f"expected 2 to {ALL} tiles, got {tiles}")
  if not 2 <= number <= math.factorial(tiles):
    raise ValueError(f"expected 2 to {math.factorial(tiles)} permutations of {tiles} tiles, got {number}")
  every = np.array(list(itertools.permutations(range(tiles))), np.int8)
  places = np.ascontiguousarray(every.T)  # contiguous per place, for fast comparison
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
  """The smallest Hamming distance between any two permutations of `[number, tiles]`."""
  differ = (permutations[:, None] != permutations[None]).sum(-1)
  return int(differ[~np.eye(len(permutations), dtype=bool)].min())
