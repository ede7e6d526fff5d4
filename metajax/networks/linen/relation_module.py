"""The relation module of relation networks: scores whether two feature maps are of one class (arXiv:1711.06025)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

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
  def __call__(self, classes, queries, train, mask=None):
    """Relation scores; a mask is that of each input, and a pair counts in batch statistics if both of its maps do."""
    blocks = Blocks(2, self.filters, "max_pool", "flatten", 2, self.normalization, self.convolution, name="blocks")
    pairs = blocks(classes, train, queries, _of_pairs(mask, classes, queries))
    features = jax.nn.relu(nn.Dense(self.hidden, name="hidden")(pairs))
    return nn.Dense(1, name="score")(features).reshape(queries.shape[0], classes.shape[0])


def _of_pairs(mask, *maps):
  """The mask of pairs, `[n * k, 1, 1, 1]`, from those of the maps of k classes and of n queries; None counts all."""
  if mask is None:
    return None
  classes, queries = (
    jnp.ones(len(x), bool) if one is None else one.reshape(-1) for one, x in zip(mask, maps, strict=True)
  )
  return (queries[:, None] & classes).reshape(-1, 1, 1, 1)
