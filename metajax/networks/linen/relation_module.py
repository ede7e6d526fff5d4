"""The network of relation networks that says of two images' maps whether they are of one class (arXiv:1711.06025)."""

import flax.linen as nn
import jax

from metajax.networks.linen.conv4 import Blocks, Convolution, Normalization
from metajax.networks.linen.from_linen import from_linen
from metajax.types import Network


def relation_module(
  filters: int = 64, hidden: int = 8, *, normalization: Normalization = "batch", convolution: Convolution = "slices"
) -> Network:
  """Two blocks of `conv4` on two maps side by side, each halving them by max-pooling, then a hidden layer.

  `[k, h, w, c]` of classes and `[n, h, w, c]` of queries to `[n, k]`, a number for each pair, before the sigmoid. The
  first convolution is of each map once, and added up for the pairs: a seventeenth of its work on 10 ways of 5 queries.

  Args:
    filters: of each block.
    hidden: units of the hidden layer.
    normalization: as in `conv4`; batch statistics are over all pairs.
    convolution: as in `conv4`.

  Raises:
    ValueError: if `filters` or `hidden` is below 1; at init, if the maps are smaller than 4 x 4.
  """
  if min(filters, hidden) < 1:
    raise ValueError(f"expected at least 1 filter and 1 hidden unit, got {filters} and {hidden}")
  return from_linen(_RelationModule(filters, hidden, normalization, convolution))


class _RelationModule(nn.Module):
  filters: int
  hidden: int
  normalization: str
  convolution: str

  @nn.compact
  def __call__(self, classes, queries, train):
    blocks = Blocks(2, self.filters, "max_pool", "flatten", 2, self.normalization, self.convolution, name="blocks")
    features = jax.nn.relu(nn.Dense(self.hidden, name="hidden")(blocks(classes, train, queries)))
    return nn.Dense(1, name="score")(features).reshape(len(queries), len(classes))
