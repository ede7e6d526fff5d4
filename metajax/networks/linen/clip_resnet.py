"""CLIP's modified residual networks (arXiv:2103.00020)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.convolution import Convolution
from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.resnet import normalized_convolution
from metajax.networks.linen.transformer import CLIP, Attention, Size
from metajax.types import Array, Network

STRIDE = 32  # pixels of an image's side per position of the attention pool
EXPANSION = 4  # outputs of a bottleneck per filter of its 3 x 3 convolution


class ClipResNet(NamedTuple):
  """The size of CLIP's modified residual network.

  Attributes:
    blocks: Bottlenecks of each of the four stages.
    width: Outputs of the stem, and filters of the first stage.
    num_heads: Heads of the attention pool.
  """

  blocks: tuple[int, ...]
  width: int
  num_heads: int

  @property
  def num_features(self) -> int:
    """Values per position of the attention pool."""
    return 8 * EXPANSION * self.width


def clip_resnet(
  blocks: tuple[int, ...],
  width: int,
  num_outputs: int,
  num_heads: int,
  *,
  pixels: int,
  dtype: DTypeLike = jnp.float32,
) -> Network:
  """CLIP's modified residual network (arXiv:2103.00020): `[n, pixels, pixels, c] -> [n, num_outputs]`.

  The stem is three 3 x 3 convolutions, the first of stride 2, and 2 x 2 average pooling. Bottlenecks have no strided
  convolution: they pool after their 3 x 3 convolution, and before the 1 x 1 convolution around them. The output is
  attention pooling: the mean over space, as the query, attends to itself and to all positions.

  Batch norm uses the statistics of the global batch, and the last norm of each block is initialized at 0, as in
  `resnet`. On a CPU convolutions are matrix products of slices, as there.

  Args:
    blocks: Bottlenecks of each of the four stages, e.g. `(3, 4, 6, 3)`.
    width: Outputs of the stem, and filters of the first stage; even.
    num_outputs: Width of an embedding.
    num_heads: Heads of the attention pool; must divide its width, `32 width`.
    pixels: Side of an image, a multiple of 32, for which positions are learned.
    dtype: Type of convolutions, products and activations, e.g. bfloat16; params and statistics are float32.

  Returns:
    A Network from `[n, pixels, pixels, c]` to `[n, num_outputs]` in float32; its state is the running statistics.

  Raises:
    ValueError: if a size is out of range; at init and apply, if images are not `[n, pixels, pixels, c]`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.networks import clip_resnet
    >>> network, images = clip_resnet((1, 1, 1, 1), 8, 16, 4, pixels=64), jnp.zeros([2, 64, 64, 3])
    >>> jax.eval_shape(lambda: network.apply(*network.init(jax.random.key(0), images), images, train=False))[0].shape
    (2, 16)
  """
  size = ClipResNet(tuple(blocks), width, num_heads)
  if len(size.blocks) != 4 or min(size.blocks) < 1:
    raise ValueError(f"expected four stages of at least 1 block, got {size.blocks}")
  if width < 2 or width % 2:
    raise ValueError(f"expected an even width of at least 2, got {width}")
  if num_heads < 1 or size.num_features % num_heads:
    raise ValueError(f"expected heads that divide {size.num_features}, 32 times the width, got {num_heads}")
  if num_outputs < 1:
    raise ValueError(f"expected at least 1 output, got {num_outputs}")
  if pixels < STRIDE or pixels % STRIDE:
    raise ValueError(f"expected pixels to be a multiple of {STRIDE}, got {pixels}")
  return from_linen(_ClipResNet(size, num_outputs, pixels, dtype))


class _ClipResNet(nn.Module):
  size: ClipResNet
  num_outputs: int
  pixels: int
  dtype: DTypeLike
  convolution: Convolution = "auto"

  @nn.compact
  def __call__(self, images, train):
    if images.ndim != 4 or images.shape[1:3] != (self.pixels, self.pixels):
      raise ValueError(f"expected images [n, {self.pixels}, {self.pixels}, channels], got {list(images.shape)}")
    images, width = images.astype(self.dtype), self.size.width
    for i, (filters, stride) in enumerate(((width // 2, 2), (width // 2, 1), (width, 1))):
      images = jax.nn.relu(normalized_convolution(self, images, filters, 3, stride, train, f"stem_{i}"))
    images = _average_pool(images)
    for stage, blocks in enumerate(self.size.blocks):
      for block in range(blocks):
        pooled = stage > 0 and block == 0
        images = self._block(images, width * 2**stage, pooled, train, f"stage_{stage}_block_{block}")
    return self._attention_pool(images)

  def _block(self, images, filters, pooled, train, name):
    inner = jax.nn.relu(normalized_convolution(self, images, filters, 1, 1, train, f"{name}_0"))
    inner = jax.nn.relu(normalized_convolution(self, inner, filters, 3, 1, train, f"{name}_1"))
    inner = _average_pool(inner) if pooled else inner
    outputs = EXPANSION * filters
    inner = normalized_convolution(self, inner, outputs, 1, 1, train, f"{name}_2", starts_at_zero=True)
    around = _average_pool(images) if pooled else images
    if around.shape != inner.shape:
      around = normalized_convolution(self, around, outputs, 1, 1, train, f"{name}_around")
    return jax.nn.relu(around + inner)

  def _attention_pool(self, maps):
    tokens, width = maps.reshape(maps.shape[0], -1, maps.shape[-1]), self.size.num_features
    tokens = jnp.concatenate([tokens.mean(1, keepdims=True), tokens], 1)
    positions = self.param("positions", nn.initializers.normal(width**-0.5), (tokens.shape[1], width))
    tokens = tokens + positions.astype(self.dtype)
    attention = Attention(Size(width, 1, self.size.num_heads), self.dtype, CLIP, self.num_outputs, name="attention")
    return attention(tokens, readers=tokens[:, :1])[0][:, 0].astype(jnp.float32)


def _average_pool(maps: Array) -> Array:
  """The mean of each block of 2 x 2, of even sides."""
  n, height, width, channels = maps.shape
  return maps.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
