"""The network of relation networks that says of two pictures' maps whether they are of one class (arXiv:1711.06025)."""

import flax.linen as nn
import jax

from metajax.networks.conv4 import Blocks, Normalisation
from metajax.networks.from_linen import from_linen
from metajax.types import Network


def relation_module(filters: int = 64, hidden: int = 8, *, normalisation: Normalisation = "batch") -> Network:
  """Two blocks of `conv4`, each halving the maps by max-pooling, then a hidden layer: `[m, h, w, 2 c] -> [m, 1]`.

  Args:
    filters: of each block.
    hidden: units of the hidden layer.
    normalisation: as in `conv4`.

  Raises:
    ValueError: if `filters` or `hidden` is below 1; at init, if the maps are smaller than 4 x 4.
  """
  if min(filters, hidden) < 1:
    raise ValueError(f"expected at least 1 filter and 1 hidden unit, got {filters} and {hidden}")
  return from_linen(_RelationModule(filters, hidden, normalisation))


class _RelationModule(nn.Module):
  filters: int
  hidden: int
  normalisation: str

  @nn.compact
  def __call__(self, maps, train):
    features = Blocks(2, self.filters, "max_pool", "flatten", 2, self.normalisation, "slices", name="blocks")(
      maps, train
    )
    return nn.Dense(1, name="score")(jax.nn.relu(nn.Dense(self.hidden, name="hidden")(features)))
