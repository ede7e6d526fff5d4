"""The vision transformer (arXiv:2010.11929)."""

from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from metajax.networks.linen.convolution import check_images
from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.layers import Remat, check_remat, run_layers
from metajax.networks.linen.transformer import (
  VIT,
  Attention,
  Details,
  Size,
  check_size,
  norm,
  perceptron,
  projected,
)
from metajax.types import Array, Network

Pool = Literal["class", "mean", "attention", "none"]
Positions = Literal["learned", "sine_cosine"]
SIZES = {"Ti": Size(192, 12, 3), "S": Size(384, 12, 6), "B": Size(768, 12, 12), "L": Size(1024, 24, 16)}


def vision_transformer(
  size: str | Size = "S",
  patch: int = 16,
  *,
  pool: Pool = "class",
  positions: Positions = "learned",
  num_outputs: int | None = None,
  dropout: float = 0.0,
  dtype: DTypeLike = jnp.float32,
  details: Details = VIT,
  remat: Remat = "none",
  scan: bool = False,
) -> Network:
  """A vision transformer (arXiv:2010.11929): `[n, h, w, c] -> [n, width]`, or `[n, num_outputs]`.

  Layers are pre-norm, with MLPs four times as wide. With learned positions, images must have the size that the network
  was initialized with. An optional second input, integers `[n, kept]`, selects the patches of each image to process, in
  reading order from 0; the others cost nothing.

  With a linear head of 1,000 classes on 224 x 224 color images in patches of 16, the parameters number 5,717,416 (Ti),
  22,050,664 (S), 86,567,656 (B) and 304,326,632 (L), as published.

  Args:
    size: "Ti", "S", "B", "L" or a `Size`.
    patch: Side of a patch in pixels; must divide the image's sides.
    pool: "class", a learned token; "mean" over patches; "attention", a learned query that attends to them, and an MLP,
      as in SigLIP (arXiv:2303.15343); or "none": outputs per patch, `[n, patches, width]`.
    positions: "learned", or fixed "sine_cosine" over both axes (arXiv:2104.02057); the latter needs `width % 4 == 0`.
    num_outputs: Outputs of a final linear map without bias, e.g. CLIP's projection; by default no such map.
    dropout: Dropout rate of attention and MLP outputs, active in training with a key.
    dtype: Type of products and activations, e.g. bfloat16; params and norm statistics are float32.
    details: Differences between published transformers; `transformer.CLIP` for CLIP's image tower.
    remat: What of a layer a training pass computes again for the gradient, to save memory: "none"; "dots", all but
      the products of tokens with matrices; or "full". Dropout then draws other numbers.
    scan: Whether training runs one layer's program over the stacked params of all, which compiles in a fraction of the
      time, and does no less than "dots"; low-rank adapters need False.

  Raises:
    ValueError: if an argument is invalid; at init, if images are not `[n, h, w, c]` or not divisible into patches.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.networks import vision_transformer
    >>> network, images = vision_transformer("S", patch=16), jnp.zeros([2, 224, 224, 3])
    >>> jax.eval_shape(lambda: network.apply(*network.init(jax.random.key(0), images), images, train=False))[0].shape
    (2, 384)
  """
  if isinstance(size, str) and size not in SIZES:
    raise ValueError(f"expected a size of {', '.join(map(repr, SIZES))} or a Size, got {size!r}")
  size = SIZES[size] if isinstance(size, str) else size
  check_size(size, num_outputs, dropout)
  check_remat(remat)
  if patch < 1:
    raise ValueError(f"expected a patch of at least 1 pixel, got {patch}")
  for name, value, known in (("pool", pool, get_args(Pool)), ("positions", positions, get_args(Positions))):
    if value not in known:
      raise ValueError(f"expected {name} to be one of {', '.join(map(repr, known))}, got {value!r}")
  check_positions(positions, size)
  return from_linen(_VisionTransformer(size, patch, pool, positions, num_outputs, dropout, dtype, details, remat, scan))


class _VisionTransformer(nn.Module):
  size: Size
  patch: int
  pool: str
  positions: str
  num_outputs: int | None
  dropout: float
  dtype: DTypeLike
  details: Details
  remat: Remat
  scan: bool

  @nn.compact
  def __call__(self, images, kept=None, *, train):
    check_images(images)
    if images.shape[1] % self.patch or images.shape[2] % self.patch:
      raise ValueError(f"expected images that divide into patches of {self.patch}, got {images.shape[1:3]}")
    width, patch, first = self.size.width, (self.patch, self.patch), self.pool == "class"
    patches = nn.Conv(width, patch, patch, "VALID", use_bias=self.details.patch_bias, dtype=self.dtype, name="patches")
    tokens = patches(images.astype(self.dtype))
    class_token = self.param("class_token", nn.initializers.zeros, (width,)) if first else None
    places = positions_of(self, tokens.shape[1:3], first)
    tokens = tokens.reshape(images.shape[0], -1, width) + places[first:]
    if kept is not None:
      tokens = jnp.take_along_axis(tokens, kept[..., None], 1)
    before = [] if class_token is None else [(class_token.astype(self.dtype) + places[0])[None]]
    if self.details.registers:
      shape = (self.details.registers, width)
      before.append(self.param("registers", nn.initializers.normal(0.02), shape).astype(self.dtype))
    if before:
      shape = (images.shape[0], first + self.details.registers, width)
      tokens = jnp.concatenate([jnp.broadcast_to(jnp.concatenate(before), shape), tokens], 1)
    if self.details.first_norm:
      tokens = norm(self, "first_norm")(tokens)
    tokens = norm(self, "norm")(run_layers(self, tokens, train)[-1])
    return projected(self, self._pooled(tokens))

  def _pooled(self, tokens):
    if self.pool == "class":
      return tokens[:, 0]
    patches = tokens[:, self.details.registers :]
    if self.pool == "attention":
      return _AttentionPool(self.size, self.dtype, self.details, name="pool")(patches)
    return patches.mean(1) if self.pool == "mean" else patches


class _AttentionPool(nn.Module):
  """Pools tokens `[n, tokens, width]` by attention of one learned query, and an MLP on a residual branch."""

  size: Size
  dtype: DTypeLike
  details: Details

  @nn.compact
  def __call__(self, tokens):
    query = self.param("query", nn.initializers.normal(0.02), (self.size.width,)).astype(self.dtype)
    readers = jnp.broadcast_to(query, (tokens.shape[0], 1, self.size.width))
    pooled = Attention(self.size, self.dtype, self.details, name="attention")(tokens, readers=readers)[0][:, 0]
    return pooled + perceptron(self, norm(self, "before_perceptron")(pooled))


def positions_of(module: nn.Module, grid: tuple[int, ...], first: bool = False) -> Array:
  """Returns the position embeddings `[tokens, width]` of a grid of patches.

  Call it within `__call__` of a module with `positions`, `size` and `dtype`. With `first`, the first row belongs to a
  class token, which has no position in the grid.
  """
  width, count = module.size.width, first + grid[0] * grid[1]
  if module.positions == "learned":
    _check_places(module, grid, count, first)
    return module.param("positions", nn.initializers.normal(0.02), (count, width)).astype(module.dtype)
  rates = 1 / 10000 ** (np.arange(width // 4) / (width // 4))
  angles = [at.reshape(-1, 1) * rates for at in np.indices(grid)]
  waves = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], 1)
  return jnp.asarray(np.concatenate([np.zeros((int(first), width)), waves]), module.dtype)


def _check_places(module, grid, count, first):
  """Raises if the images have another size than at initialization."""
  if not module.has_variable("params", "positions"):
    return
  places = module.get_variable("params", "positions").shape[0]
  if places != count:
    raise ValueError(
      f"expected images of {places - first} patches, the size that the network was initialized with, got "
      f"{grid[0]} x {grid[1]} patches: learned positions exist only for that size"
    )


def resized_positions(positions: np.ndarray, side: int, *, first: bool = True, antialias: bool = True) -> np.ndarray:
  """Interpolates learned positions to another image size: `[1 + n, width] -> [1 + side^2, width]`.

  Args:
    positions: Positions; the `n` patches must form a square.
    side: Patches along a side of the new images.
    first: Whether the first row belongs to the class token; it stays unchanged.
    antialias: Keys' cubic (a = -1/2), antialiased when shrinking, as in open_clip and timm. Otherwise Keys' cubic
      (a = -3/4) with repeated ends, as in transformers' ViT, DINOv2 and SigLIP.

  Raises:
    ValueError: if the patches do not form a square.
  """
  positions = np.asarray(positions, np.float32)
  old, width = round((len(positions) - first) ** 0.5), positions.shape[1]
  if old**2 + first != len(positions) or side < 1:
    given = f"{len(positions)} for {side}"
    raise ValueError(f"expected positions of a square of patches{' and a class token' * first}, got {given}")
  weights = _interpolation(old, side, antialias)
  grid = np.einsum("yi,xj,ijd->yxd", weights, weights, positions[first:].reshape(old, old, width))
  return np.concatenate([positions[:first], grid.reshape(-1, width)]).astype(np.float32)


def _interpolation(old: int, new: int, antialias: bool) -> np.ndarray:
  """Returns the weights of a cubic interpolation along one axis, `[new, old]`."""
  scale, slope = old / new, -0.5 if antialias else -0.75
  stretch = max(scale, 1) if antialias else 1
  pad = 0 if antialias else 2  # ends are repeated
  places = (np.arange(new)[:, None] + 0.5) * scale
  away = np.abs(np.arange(-pad, old + pad) + 0.5 - places) / stretch
  near = (slope + 2) * away**3 - (slope + 3) * away**2 + 1
  far = slope * (away**3 - 5 * away**2 + 8 * away - 4)
  weights = np.where(away < 1, near, np.where(away < 2, far, 0))
  if pad:
    ends = np.minimum(np.maximum(np.arange(-pad, old + pad), 0), old - 1)
    weights = weights @ np.eye(old)[ends]
  return weights / weights.sum(1, keepdims=True)


def check_positions(positions: str, size: Size):
  """Checks that the width fits the positions.

  Raises:
    ValueError: if positions are "sine_cosine" (sines and cosines of two axes) and the width is not divisible by 4.
  """
  if positions == "sine_cosine" and size.width % 4:
    raise ValueError(f"expected a width divisible by 4 with positions 'sine_cosine', got {size.width}")
