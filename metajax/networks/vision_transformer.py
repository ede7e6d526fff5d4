"""The vision transformer (arXiv:2010.11929)."""

from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp

from metajax.networks.convolution import check_pictures
from metajax.networks.from_linen import from_linen
from metajax.networks.transformer import VIT, Details, Layer, Size, check_size, norm, projected
from metajax.types import Network

Pool = Literal["class", "mean"]
SIZES = {"Ti": Size(192, 12, 3), "S": Size(384, 12, 6), "B": Size(768, 12, 12), "L": Size(1024, 24, 16)}


def vision_transformer(
  size: str | Size = "S",
  patch: int = 16,
  *,
  pool: Pool = "class",
  outputs: int | None = None,
  dropout: float = 0.0,
  dtype=jnp.float32,
  details: Details = VIT,
) -> Network:
  """A transformer over the patches of a picture: `[n, h, w, c] -> [n, width]`, or `[n, outputs]`.

  Layers are pre-norm, their perceptrons four times as wide; positions are learned, so pictures have the size that the
  network was initialised with. With a linear head of 1,000 ways, on 224 x 224 colour pictures in patches of 16, there
  are 5,717,416 (Ti), 22,050,664 (S), 86,567,656 (B) and 304,326,632 (L) parameters, the published numbers.

  Args:
    size: "Ti", "S", "B", "L" or a `Size`.
    patch: side of a patch in pixels; it divides the picture's sides.
    pool: "class", a learned token's output; "mean", over the patches, without such a token.
    outputs: of a linear map without bias on top, such as CLIP's projection; by default there is none.
    dropout: of attention's and perceptrons' outputs, while training with a key.
    dtype: of products and activations, such as bfloat16; params are float32, and so are the norms' statistics.
    details: in which published transformers differ; `transformer.CLIP` are those of CLIP's picture tower.

  Raises:
    ValueError: if an argument is none of these; at init, if the pictures are not `[n, h, w, c]` or do not divide into
      patches.
  """
  if isinstance(size, str) and size not in SIZES:
    raise ValueError(f"expected a size of {', '.join(map(repr, SIZES))} or a Size, got {size!r}")
  size = SIZES[size] if isinstance(size, str) else size
  check_size(size, outputs, dropout)
  if patch < 1:
    raise ValueError(f"expected a patch of at least 1 pixel, got {patch}")
  if pool not in get_args(Pool):
    raise ValueError(f"expected pool to be one of {', '.join(map(repr, get_args(Pool)))}, got {pool!r}")
  return from_linen(_VisionTransformer(size, patch, pool, outputs, dropout, dtype, details))


class _VisionTransformer(nn.Module):
  size: Size
  patch: int
  pool: str
  outputs: int | None
  dropout: float
  dtype: jnp.dtype
  details: Details

  @nn.compact
  def __call__(self, images, train):
    check_pictures(images)
    if images.shape[1] % self.patch or images.shape[2] % self.patch:
      raise ValueError(f"expected pictures that divide into patches of {self.patch}, got {images.shape[1:3]}")
    width, patch = self.size.width, (self.patch, self.patch)
    patches = nn.Conv(width, patch, patch, "VALID", use_bias=self.details.patch_bias, dtype=self.dtype, name="patches")
    tokens = patches(images.astype(self.dtype))
    tokens = tokens.reshape(len(images), -1, width)
    if self.pool == "class":
      first = self.param("class_token", nn.initializers.zeros, (width,))
      tokens = jnp.concatenate([jnp.broadcast_to(first.astype(self.dtype), (len(images), 1, width)), tokens], 1)
    positions = self.param("positions", nn.initializers.normal(0.02), tokens.shape[1:])
    tokens = tokens + positions.astype(self.dtype)
    if self.details.first_norm:
      tokens = norm(self, "first_norm")(tokens)
    for layer in range(self.size.layers):
      tokens = Layer(self.size, self.dropout, self.dtype, self.details, name=f"layer_{layer}")(tokens, train)
    tokens = norm(self, "norm")(tokens)
    pooled = tokens[:, 0] if self.pool == "class" else tokens.mean(1)
    return projected(self, pooled)
