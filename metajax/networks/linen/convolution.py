"""A convolution that stays fast when its kernel differs by task and its gradient is differentiated again.

XLA turns a convolution vectorized over kernels into a grouped one, and on a CPU computes the gradient of a kernel
inside a loop without its fast path, one to two orders of magnitude slower. Written as one matrix product over shifted
slices, the convolution and all its derivatives are matrix products, which are fast everywhere.
"""

import jax.numpy as jnp
from jax import lax

from metajax.types import Array


def convolve(images: Array, kernel: Array, stride: int = 1) -> Array:
  """The 2-dimensional convolution with "SAME" padding, as one matrix product over shifted slices.

  Args:
    images: `[n, height, width, channels]`.
    kernel: `[kernel height, kernel width, channels, filters]`.
    stride: Stride along both axes.

  Returns:
    `[n, ceil(height / stride), ceil(width / stride), filters]`.
  """
  n, *size, channels = images.shape
  rows, columns, _, filters = kernel.shape
  padding = lax.padtype_to_pads(size, (rows, columns), (stride, stride), "SAME")
  padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
  height, width = (-(-s // stride) for s in size)
  shifted = [
    padded[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
    for i in range(rows)
    for j in range(columns)
  ]
  patches = jnp.concatenate(shifted, axis=-1).reshape(n * height * width, rows * columns * channels)
  return _product(patches, kernel).reshape(n, height, width, filters)


def check_images(images: Array):
  """Checks that an array is a batch of images.

  Raises:
    ValueError: if it does not have 4 axes; the message has its shape.
  """
  if images.ndim != 4:
    raise ValueError(f"expected images [n, height, width, channels], got an array of shape {list(images.shape)}")


def _product(patches: Array, kernel: Array) -> Array:
  """`patches @ kernel.reshape(-1, filters)`, in a form whose derivative with respect to the kernel is fast on a CPU.

  That derivative, `patches^T @ out`, runs at half speed in XLA if `patches` is the wider of the two, but
  `out^T @ patches` does not. All four axes are transposed, because XLA would fold a transposed matrix back.
  """
  filters = kernel.shape[-1]
  if patches.shape[1] < filters:
    return patches @ kernel.reshape(-1, filters)
  return lax.dot_general(patches, kernel.transpose(3, 0, 1, 2).reshape(filters, -1), (((1,), (1,)), ((), ())))


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
