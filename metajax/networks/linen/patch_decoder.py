"""The light decoder of a masked autoencoder (arXiv:2111.06377): from what was seen of an image to all of it."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.transformer import VIT, Details, Layer, Size, check_size, norm
from metajax.networks.linen.vision_transformer import Positions, check_positions, positions_of
from metajax.types import Network

LIGHT = Size(512, 8, 16)  # the paper's


def patch_decoder(
  num_outputs: int,
  size: Size = LIGHT,
  *,
  positions: Positions = "sine_cosine",
  dropout: float = 0.0,
  dtype: DTypeLike = jnp.float32,
  details: Details = VIT,
) -> Network:
  """A transformer over all patches of an image, of which it is given some: `[n, kept, d], [n, patches] -> [n, patches,
  outputs]`.

  The second input is the order in which patches, numbered in reading order, come: first those that are given, in the
  order of their features, then the others, whose place a learned token takes. Patches are a square of them.

  Args:
    num_outputs: of each patch, such as its pixels' values, `patch * patch * channels`.
    size: values of a token, layers, attention heads.
    positions: "sine_cosine", fixed, of a width that 4 divides; or "learned".
    dropout, dtype, details: as for `vision_transformer`.

  Raises:
    ValueError: if an argument is out of range; when applied, if the patches are no square, or fewer than are given.
  """
  check_size(size, num_outputs, dropout)
  check_positions(positions, size)
  return from_linen(_PatchDecoder(num_outputs, size, positions, dropout, dtype, details))


class _PatchDecoder(nn.Module):
  num_outputs: int
  size: Size
  positions: str
  dropout: float
  dtype: DTypeLike
  details: Details

  @nn.compact
  def __call__(self, features, order, *, train):
    (n, kept, _), count = features.shape, order.shape[1]
    side = round(count**0.5)
    if side**2 != count or kept > count:
      raise ValueError(f"expected a square number of patches, of which {kept} are given, got {count}")
    tokens = nn.Dense(self.size.width, dtype=self.dtype, name="inputs")(features.astype(self.dtype))
    masked = self.param("mask_token", nn.initializers.normal(0.02), (self.size.width,)).astype(self.dtype)
    tokens = jnp.concatenate([tokens, jnp.broadcast_to(masked, (n, count - kept, self.size.width))], 1)
    tokens = jnp.take_along_axis(tokens, jnp.argsort(order)[..., None], 1) + positions_of(self, (side, side))
    for layer in range(self.size.num_layers):
      tokens, _ = Layer(self.size, self.dropout, self.dtype, self.details, name=f"layer_{layer}")(tokens, train)
    return nn.Dense(self.num_outputs, dtype=self.dtype, name="pixels")(norm(self, "norm")(tokens)).astype(jnp.float32)
