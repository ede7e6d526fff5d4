"""A convolution that stays fast when its kernel differs by task and its gradient is differentiated again.

XLA turns a convolution vectorized over kernels into a grouped one, and on a CPU computes the gradient of a kernel
inside a loop without its fast path, one to two orders of magnitude slower. Written as matrix products of shifted
slices, the convolution and all its derivatives are matrix products, which are fast everywhere.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jax import lax

from metajax.platforms import platform
from metajax.types import Array

Convolution = Literal["auto", "slices", "native"]
MANY = 500  # outputs, from which products of all taps take less time than one of gathered slices


def convolve(images: Array, kernel: Array, stride: int = 1, *, before: Sequence[int] | None = None) -> Array:
  """The 2-dimensional convolution with "SAME" padding, as matrix products.

  Few outputs, or fewer channels than filters: the shifted slices of the images are gathered and multiplied once. Else
  the pixels are multiplied by all taps of the kernel, and the products are shifted and added. This writes as much, but
  the derivative with respect to the images is then a product, where the other has to add overlapping slices.

  Args:
    images: `[n, height, width, channels]`.
    kernel: `[kernel height, kernel width, channels, filters]`.
    stride: Stride along both axes.
    before: Zeros before the first row and column; by default those of "SAME". PyTorch's padding of half a kernel is
      `(1, 1)` for 3 x 3, at any stride; there are as many zeros after as the outputs need.

  Returns:
    `[n, ceil(height / stride), ceil(width / stride), filters]`.
  """
  channels, filters = kernel.shape[2:]
  outputs = images.shape[0] * math.prod(-(-size // stride) for size in images.shape[1:3])
  # The number of rows is a symbol in a program that is exported for any.
  if channels >= filters and isinstance(outputs, int) and outputs >= MANY:
    return _products_then_shifts(images, kernel, stride, before)
  patches = extract_patches(images, kernel.shape[:2], stride, before=before)
  return _product(patches.reshape(-1, patches.shape[-1]), kernel).reshape(*patches.shape[:3], filters)


def is_native(convolution: Convolution) -> bool:
  """Whether "auto", "slices" or "native" is XLA's convolution: "auto" is on a TPU.

  There a convolution vectorized over kernels is fast. On a GPU "auto" is slices, which is not measured.
  """
  return convolution == "native" or (convolution == "auto" and platform() == "tpu")


def extract_patches(
  images: Array, size: Sequence[int], stride: int = 1, *, before: Sequence[int] | None = None
) -> Array:
  """The pixels that each output of a "SAME" convolution sees: `[n, height, width, channels]` to
  `[n, ceil(height / stride), ceil(width / stride), rows * columns * channels]`; `before` as for `convolve`.
  """
  height, width = (-(-extent // stride) for extent in images.shape[1:3])
  start = _zeros_before(images, size, stride) if before is None else before
  after = [
    max(0, stride * (there - 1) + seen - zeros - extent)
    for there, seen, zeros, extent in zip((height, width), size, start, images.shape[1:3], strict=True)
  ]
  padded = jnp.pad(images, ((0, 0), *zip(start, after, strict=True), (0, 0)))
  shifted = [
    padded[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
    for i in range(size[0])
    for j in range(size[1])
  ]
  return jnp.concatenate(shifted, axis=-1)


def _product(patches: Array, kernel: Array) -> Array:
  """`patches @ kernel.reshape(-1, filters)`, in a form whose derivative with respect to the kernel is fast on a CPU.

  That derivative, `patches^T @ out`, runs at half speed in XLA if `patches` is the wider of the two, but
  `out^T @ patches` does not. All four axes are transposed, because XLA would fold a transposed matrix back.
  """
  filters = kernel.shape[-1]
  if patches.shape[1] < filters:
    return patches @ kernel.reshape(-1, filters)
  return lax.dot_general(patches, kernel.transpose(3, 0, 1, 2).reshape(filters, -1), (((1,), (1,)), ((), ())))


def _zeros_before(images: Array, size: Sequence[int], stride: int) -> list[int]:
  """The zeros of "SAME" padding before the first row and column."""
  return [pad for pad, _ in lax.padtype_to_pads(images.shape[1:3], size, (stride, stride), "SAME")]


def _products_then_shifts(images: Array, kernel: Array, stride: int, before: Sequence[int] | None) -> Array:
  n, *size, channels = images.shape
  *extent, _, filters = kernel.shape
  height, width = (-(-s // stride) for s in size)
  before = _zeros_before(images, extent, stride) if before is None else before
  images = jnp.pad(images, ((0, 0), (0, height * stride - size[0]), (0, width * stride - size[1]), (0, 0)))
  # `lax.split`, as its derivative is a concatenation; that of a slice is a sum of padded arrays.
  grid = images.reshape(n, height, stride, width, stride, channels)
  planes = [lax.split(rows, [1] * stride, 4) for rows in lax.split(grid, [1] * stride, 2)]
  taps = {}  # {plane of pixels (row, column) modulo the stride: taps that see it, with the offsets of their outputs}
  for i, j in itertools.product(*map(range, extent)):
    (down, row), (right, column) = divmod(i - before[0], stride), divmod(j - before[1], stride)
    taps.setdefault((row, column), []).append((i, j, down, right))
  shifted = []
  for (row, column), own in taps.items():
    pixels = planes[row][column].reshape(n * height * width, channels)
    products = pixels @ jnp.concatenate([kernel[i, j] for i, j, *_ in own], axis=-1)
    parts = lax.split(products.reshape(n, height, width, -1), [filters] * len(own), 3)
    shifted += [_shift(_shift(part, 1, down), 2, right) for part, (*_, down, right) in zip(parts, own, strict=True)]
  return functools.reduce(jnp.add, shifted)


def _shift(maps: Array, axis: int, offset: int) -> Array:
  """`maps[i + offset]` along an axis, with zeros beyond the ends."""
  size = maps.shape[axis]
  inside = lax.slice_in_dim(maps, min(max(offset, 0), size), max(size + min(offset, 0), 0), axis=axis)
  padding = [(0, 0)] * maps.ndim
  padding[axis] = (min(max(-offset, 0), size), min(max(offset, 0), size))
  return jnp.pad(inside, padding)


def check_images(images: Array):
  """Checks that an array is a batch of images.

  Raises:
    ValueError: if it does not have 4 axes; the message has its shape.
  """
  if images.ndim != 4:
    raise ValueError(f"expected images [n, height, width, channels], got an array of shape {list(images.shape)}")


def native_convolve(images: Array, kernel: Array, stride: int = 1) -> Array:
  """`convolve` by XLA's convolution, which is faster for large images outside inner loops."""
  return lax.conv_general_dilated(images, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def max_pool(images: Array) -> Array:
  """2 x 2 max-pooling that drops an odd last row or column: `[n, h, w, c] -> [n, h // 2, w // 2, c]`.

  If values of a block are equal, the gradient goes to the first.
  """
  n, height, width, channels = images.shape
  images = images[:, : height // 2 * 2, : width // 2 * 2]
  pairs = images.reshape(n, height // 2 * 2, width // 2, 2 * channels)
  across = _larger(pairs[..., :channels], pairs[..., channels:])
  pairs = across.reshape(n, height // 2, 2, width // 2, channels)
  return _larger(pairs[:, :, 0], pairs[:, :, 1])


def _larger(first, second):
  # The derivative of `jnp.max` compares values with a maximum that the compiler may have recomputed with different
  # rounding, and divides by the number of equal ones: by zero, as seen on a CPU. A selection avoids this.
  return jnp.where(first >= second, first, second)
