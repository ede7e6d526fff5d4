"""The lightweight decoder of a masked autoencoder (arXiv:2111.06377): from visible patches to all patches."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.layers import Remat, check_remat, run_layers
from metajax.networks.linen.transformer import VIT, Details, Size, check_size, norm
from metajax.networks.linen.vision_transformer import Positions, check_positions, positions_of
from metajax.types import Network

LIGHT = Size(512, 8, 16)  # the size in the paper


def patch_decoder(
  num_outputs: int,
  size: Size = LIGHT,
  *,
  positions: Positions = "sine_cosine",
  dropout: float = 0.0,
  dtype: DTypeLike = jnp.float32,
  details: Details = VIT,
  remat: Remat = "none",
  scan: bool = False,
) -> Network:
  """A transformer that reconstructs all patches of an image from the features of the visible ones.

  The first input holds the visible patches' features. The second is a permutation of all patches, numbered in reading
  order: first the visible ones, in the order of their features, then the others, which a learned mask token replaces.
  The patches must form a square.

  Args:
    num_outputs: Outputs per patch, e.g. its pixel values, `patch * patch * channels`.
    size: Width, number of layers and number of attention heads.
    positions: Fixed "sine_cosine", which needs `width % 4 == 0`, or "learned".
    dropout, dtype, details, remat, scan: As for `vision_transformer`.

  Returns:
    A Network from `[n, kept, d]` and `[n, patches]` to `[n, patches, num_outputs]`.

  Raises:
    ValueError: if an argument is out of range; when applied, if the patches do not form a square, or are fewer than the
      visible ones.
  """
  check_size(size, num_outputs, dropout)
  check_remat(remat)
  check_positions(positions, size)
  return from_linen(_PatchDecoder(num_outputs, size, positions, dropout, dtype, details, remat, scan))


class _PatchDecoder(nn.Module):
  num_outputs: int
  size: Size
  positions: str
  dropout: float
  dtype: DTypeLike
  details: Details
  remat: Remat
  scan: bool

  @nn.compact
  def __call__(self, features, order, *, train):
    (n, kept, _), count = features.shape, order.shape[1]
    side = round(count**0.5)
    if side**2 != count or kept > count:
      raise ValueError(f"expected a square number of patches, at least the {kept} visible ones, got {count}")
    tokens = nn.Dense(self.size.width, dtype=self.dtype, name="inputs")(features.astype(self.dtype))
    masked = self.param("mask_token", nn.initializers.normal(0.02), (self.size.width,)).astype(self.dtype)
    tokens = jnp.concatenate([tokens, jnp.broadcast_to(masked, (n, count - kept, self.size.width))], 1)
    tokens = jnp.take_along_axis(tokens, jnp.argsort(order)[..., None], 1) + positions_of(self, (side, side))
    tokens = run_layers(self, tokens, train)[-1]
    return nn.Dense(self.num_outputs, dtype=self.dtype, name="pixels")(norm(self, "norm")(tokens)).astype(jnp.float32)
