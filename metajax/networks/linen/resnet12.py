"""The residual network of few-shot learning (arXiv:1805.10123, 1904.03758)."""

from collections.abc import Sequence
from typing import Literal, get_args

import flax.linen as nn

from metajax.networks.linen.convolution import check_images, convolve, max_pool, native_convolve
from metajax.networks.linen.from_linen import from_linen
from metajax.types import Network

Convolution = Literal["slices", "native"]


def resnet12(
  filters: Sequence[int] = (64, 160, 320, 640),
  *,
  convolution: Convolution = "slices",
) -> Network:
  """Residual blocks of three 3 x 3 convolutions with batch norm and leaky ReLU, each halving the image by
  max-pooling, then the mean over space: `[n, h, w, c] -> [n, filters[-1]]`.

  The default has 12,424,320 parameters on color images, as MetaOptNet's.

  Args:
    filters: of each block, as many as there are blocks.
    convolution: "slices" is fast where the weights differ by task (inner loops), "native" is XLA's own: the faster one
      outside them and for large images.

  Raises:
    ValueError: if an argument is none of these; at init, if the images are not `[n, h, w, c]` or too small to halve
      as often as there are blocks.
  """
  if convolution not in get_args(Convolution):
    raise ValueError(f"expected convolution to be one of 'slices', 'native', got {convolution!r}")
  if not filters or min(filters) < 1:
    raise ValueError(f"expected filters of at least 1 for at least one block, got {list(filters)}")
  return from_linen(_ResNet12(tuple(filters), convolution))


class _ResNet12(nn.Module):
  filters: tuple[int, ...]
  convolution: str

  @nn.compact
  def __call__(self, images, train):
    check_images(images)
    least = 2 ** len(self.filters)
    if min(images.shape[1:3]) < least:
      raise ValueError(f"expected images of at least {least} x {least} to halve them, got {images.shape[1:3]}")
    for block, filters in enumerate(self.filters):
      images = self._block(images, filters, train, f"block_{block}")
    return images.mean((1, 2))

  def _block(self, images, filters, train, name):
    inner = images
    for layer in range(3):
      inner = self._normalized(inner, filters, 3, train, f"{name}_{layer}")
      inner = nn.leaky_relu(inner, 0.1) if layer < 2 else inner
    around = self._normalized(images, filters, 1, train, f"{name}_around")
    return max_pool(nn.leaky_relu(inner + around, 0.1))

  def _normalized(self, images, filters, size, train, name):
    initial = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")  # of He, for leaky ReLU
    kernel = self.param(f"{name}_kernel", initial, (size, size, images.shape[-1], filters))
    run = convolve if self.convolution == "slices" else native_convolve
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"{name}_norm")(run(images, kernel))
