"""Residual networks of 10 to 101 layers (arXiv:1512.03385), also wide ones."""

from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.convolution import Convolution, check_images, convolve
from metajax.networks.linen.from_linen import from_linen
from metajax.platforms import platform
from metajax.types import Array, Network

Stem = Literal["imagenet", "cifar"]
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BOTTLENECKS = (50, 101)
FILTERS = 64  # filters of the first stage at width 1


def resnet(
  depth: int,
  *,
  width: float = 1.0,
  stem: Stem = "imagenet",
  convolution: Convolution = "auto",
  dtype: DTypeLike = jnp.float32,
) -> Network:
  """A residual network without its classifier; features are the mean over space.

  From depth 50, blocks are bottlenecks with the stride in the 3 x 3 convolution, as usual since arXiv:1706.02677. With
  a linear head of 1,000 classes the parameters number 11,689,512 at depth 18, 21,797,672 at 34, 25,557,032 at 50 and
  44,549,160 at 101, as published.

  Batch norm uses the statistics of the global batch, over all devices of a mesh. The last norm of each block is
  initialized at 0 (arXiv:1706.02677), so that each block starts as the identity.

  Args:
    depth: Number of layers: 10 (one block per stage), 18, 34, 50 or 101.
    width: Multiplier of the filters of every layer (SimCLR's x2, x4); may be below 1.
    stem: "imagenet", a 7 x 7 convolution of stride 2 and max-pooling, or "cifar", a 3 x 3 convolution for small images.
    convolution: "auto" is "slices", matrix products, on a CPU, where a training step takes a quarter to two thirds of
      the time of "native", XLA's convolution, and is "native" elsewhere.
    dtype: Type of convolutions and activations, e.g. bfloat16; params and statistics are float32.

  Returns:
    A Network from `[n, h, w, c]` to `[n, 512 width]`, or `[n, 2048 width]` from depth 50.

  Raises:
    ValueError: if `depth`, `stem` or `convolution` is unknown, or `width` leaves no filter; at init, if the images are
      not `[n, h, w, c]`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.networks import resnet
    >>> network, images = resnet(18, stem="cifar"), jnp.zeros([2, 32, 32, 3])
    >>> jax.eval_shape(lambda: network.apply(*network.init(jax.random.key(0), images), images, train=False))[0].shape
    (2, 512)
  """
  if depth not in BLOCKS:
    raise ValueError(f"expected a depth of {', '.join(map(str, BLOCKS))}, got {depth}")
  for name, value, choices in (("stem", stem, Stem), ("convolution", convolution, Convolution)):
    if value not in get_args(choices):
      raise ValueError(f"expected {name} to be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")
  if round(FILTERS * width) < 1:
    raise ValueError(f"expected a width of at least {1 / FILTERS}, got {width}")
  return from_linen(_ResNet(BLOCKS[depth], depth in BOTTLENECKS, round(FILTERS * width), stem, convolution, dtype))


class _ResNet(nn.Module):
  blocks: tuple[int, ...]
  bottleneck: bool
  filters: int
  stem: str
  convolution: Convolution
  dtype: DTypeLike

  @nn.compact
  def __call__(self, images, train):
    check_images(images)
    images = images.astype(self.dtype)
    size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
    images = jax.nn.relu(normalized_convolution(self, images, self.filters, size, stride, train, "stem"))
    if self.stem == "imagenet":
      images = nn.max_pool(images, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for stage, blocks in enumerate(self.blocks):
      for block in range(blocks):
        stride = 2 if stage and not block else 1
        images = self._block(images, self.filters * 2**stage, stride, train, f"stage_{stage}_block_{block}")
    return images.mean((1, 2), dtype=jnp.float32)

  def _block(self, images, filters, stride, train, name):
    layers = [(filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)]
    layers = layers if self.bottleneck else [(filters, 3, stride), (filters, 3, 1)]
    inner = images
    for i, (outputs, size, step) in enumerate(layers):
      last = i == len(layers) - 1
      inner = normalized_convolution(self, inner, outputs, size, step, train, f"{name}_{i}", starts_at_zero=last)
      inner = inner if last else jax.nn.relu(inner)
    if images.shape != inner.shape:
      images = normalized_convolution(self, images, inner.shape[-1], 1, stride, train, f"{name}_around")
    return jax.nn.relu(images + inner)


def normalized_convolution(
  module: nn.Module,
  images: Array,
  filters: int,
  size: int,
  stride: int,
  train: bool,
  name: str,
  starts_at_zero: bool = False,
) -> Array:
  """A convolution and its batch norm, within `__call__` of a module with `convolution` and `dtype`."""
  around = (size - 1) // 2
  slices = module.convolution == "slices" or (module.convolution == "auto" and platform() == "cpu")
  images = nn.Conv(
    filters,
    (size, size),
    stride,
    ((around, around), (around, around)),
    use_bias=False,
    dtype=module.dtype,
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal"),
    conv_general_dilated=_by_slices if slices else None,
    name=f"{name}_convolution",
  )(images)
  scale = nn.initializers.zeros if starts_at_zero else nn.initializers.ones
  norm = nn.BatchNorm(
    use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=module.dtype, scale_init=scale, name=f"{name}_norm"
  )
  return norm(images)


def _by_slices(images, kernel, strides, padding, **_):
  """`convolve` in the place of `lax.conv_general_dilated`, for the convolutions of a ResNet."""
  return convolve(images, kernel, strides[0], before=[before for before, _ in padding])
