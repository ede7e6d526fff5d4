"""How near what is sought is among others, by cosine."""

from typing import NamedTuple

import numpy as np

from metajax import checks


class Rank(NamedTuple):
  """The place of what is sought by each of some rows.

  Attributes:
    nearer: how many others are nearer, `[rows]`.
    equal: how many others are exactly as near, `[rows]`.
    own: how many that are sought are so near, at least 1, `[rows]`.
  """

  nearer: np.ndarray
  equal: np.ndarray
  own: np.ndarray

  def recall(self, k: int) -> np.ndarray:
    """How often one that is sought is among the `k` nearest, of equals in any order: 0 to 1, `[rows]`.

    So embeddings that are all the same find as often as chance.
    """
    missed = np.ones(len(self.nearer))
    for drawn in range(k):  # of the equals, without replacement, as many as places are left
      left = np.maximum(self.equal + self.own - drawn, 1)
      missed *= np.where(self.nearer + drawn < k, np.maximum(self.equal - drawn, 0) / left, 1)
    return 1 - missed


def rank(cosines: np.ndarray, own: np.ndarray) -> Rank:
  """The rank of the nearest of what is sought: cosines `[rows, n]`, columns that are sought `[rows, any number]`.

  Raises:
    FloatingPointError: if a cosine is not finite, naming its row: nothing is nearer than NaN.
  """
  checks.finite("cosines", cosines, error=FloatingPointError)
  best = np.take_along_axis(cosines, own, 1).max(-1, keepdims=True)
  other = np.ones(cosines.shape, bool)
  np.put_along_axis(other, own, False, 1)
  equal = cosines == best
  return Rank(((cosines > best) & other).sum(-1), (equal & other).sum(-1), (equal & ~other).sum(-1))


def unit(x: np.ndarray) -> np.ndarray:
  """Rows of length 1 in 32 bits; a row of zeros stays."""
  length = np.linalg.norm(np.asarray(x, np.float64), axis=-1, keepdims=True)  # of 32 bits no square overflows in 64
  return np.float32(x / np.where(length == 0, 1, length))
