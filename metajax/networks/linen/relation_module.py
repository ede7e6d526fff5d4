"""The relation module of relation networks: scores whether two feature maps are of one class (arXiv:1711.06025)."""

import flax.linen as nn
import jax

from metajax.networks.linen.conv4 import Blocks, Convolution, Normalization
from metajax.networks.linen.from_linen import from_linen
from metajax.types import Network


def relation_module(
  filters: int = 64, hidden: int = 8, *, normalization: Normalization = "batch", convolution: Convolution = "auto"
) -> Network:
  """Two `conv4` blocks with max-pooling on pairs of feature maps, concatenated along channels, then a hidden layer.

  The first convolution runs on each map once and is summed for the pairs: a seventeenth of the work for 10 ways and 5
  queries each.

  Args:
    filters: Number of filters per block.
    hidden: Number of hidden units.
    normalization: As for `conv4`; batch statistics are over all pairs.
    convolution: As for `conv4`.

  Returns:
    A Network from class maps `[k, h, w, c]` and query maps `[n, h, w, c]` to relation scores `[n, k]`, before the
    sigmoid.

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
  convolution: Convolution

  @nn.compact
  def __call__(self, classes, queries, train):
    blocks = Blocks(2, self.filters, "max_pool", "flatten", 2, self.normalization, self.convolution, name="blocks")
    features = jax.nn.relu(nn.Dense(self.hidden, name="hidden")(blocks(classes, train, queries)))
    return nn.Dense(1, name="score")(features).reshape(queries.shape[0], classes.shape[0])
