"""ResNet-12, the residual network of few-shot learning (arXiv:1805.10123, 1904.03758)."""

from collections.abc import Sequence
from typing import get_args

import flax.linen as nn

from metajax.networks.linen.convolution import Convolution, check_images, convolve, is_native, max_pool, native_convolve
from metajax.networks.linen.from_linen import from_linen
from metajax.types import Network


def resnet12(
  filters: Sequence[int] = (64, 160, 320, 640),
  *,
  convolution: Convolution = "auto",
) -> Network:
  """ResNet-12: residual blocks of three 3 x 3 convolutions, batch norm and leaky ReLU, each halving the image.

  Blocks end in max-pooling; features are the mean over space. The default has 12,424,320 parameters on color images, as
  in MetaOptNet.

  Args:
    filters: Number of filters of each block; its length is the number of blocks.
    convolution: As for `conv4`.

  Returns:
    A Network from `[n, h, w, c]` to `[n, filters[-1]]`.

  Raises:
    ValueError: if an argument is invalid; at init, if the images are not `[n, h, w, c]` or too small to be halved once
      per block.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.networks import resnet12
    >>> params, state = jax.eval_shape(resnet12().init, jax.random.key(0), jnp.zeros([1, 84, 84, 3]))
    >>> sum(x.size for x in jax.tree.leaves(params))
    12424320
  """
  if convolution not in get_args(Convolution):
    raise ValueError(f"expected convolution to be one of 'auto', 'slices', 'native', got {convolution!r}")
  if not filters or min(filters) < 1:
    raise ValueError(f"expected filters of at least 1 for at least one block, got {list(filters)}")
  return from_linen(_ResNet12(tuple(filters), convolution))


class _ResNet12(nn.Module):
  filters: tuple[int, ...]
  convolution: Convolution

  @nn.compact
  def __call__(self, images, train, mask=None):
    check_images(images)
    least = 2 ** len(self.filters)
    if min(images.shape[1:3]) < least:
      raise ValueError(f"expected images of at least {least} x {least} to halve them, got {images.shape[1:3]}")
    for block, filters in enumerate(self.filters):
      images = self._block(images, filters, train, f"block_{block}", mask)
    return images.mean((1, 2))

  def _block(self, images, filters, train, name, mask):
    inner = images
    for layer in range(3):
      inner = self._normalized(inner, filters, 3, train, f"{name}_{layer}", mask)
      inner = nn.leaky_relu(inner, 0.1) if layer < 2 else inner
    around = self._normalized(images, filters, 1, train, f"{name}_around", mask)
    return max_pool(nn.leaky_relu(inner + around, 0.1))

  def _normalized(self, images, filters, size, train, name, mask):
    initial = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")  # He initialization
    kernel = self.param(f"{name}_kernel", initial, (size, size, images.shape[-1], filters))
    run = native_convolve if is_native(self.convolution) else convolve
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"{name}_norm")
    return norm(run(images, kernel), mask=mask)
