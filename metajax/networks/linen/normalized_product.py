"""A product with batch norm, whose statistics are computed from the inputs."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

# In float32 on all devices: patches without their mean would lose digits that pixels of 8 bits have, and of rounded
# factors a small variance could be negative.
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class NormalizedProduct(nn.Module):
  """`BatchNorm(patches @ kernel)`, for patches with fewer values than the outputs.

  Mean and variance of a linear map follow from those of its inputs, of covariance C:

      mean = mean(patches) @ kernel,   variance = diag(kernel^T C kernel)

  So neither they nor their derivatives read the outputs, which a batch norm reads several times. The normalization is
  part of the product, `(patches - mean) @ (kernel * scale / sqrt(variance + epsilon)) + bias`. Variables are those of
  `flax.linen.BatchNorm`.

  Attributes:
    momentum: Momentum of the running statistics.
    epsilon: Added to the variance.
  """

  momentum: float
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, patches, kernel, train, mask=None):
    """`[..., values]` and `[..., filters]`, of as many values, to `[..., filters]`; a mask is that of `BatchNorm`."""
    *outer, values = patches.shape
    filters = kernel.shape[-1]
    rows, matrix = patches.reshape(-1, values), kernel.reshape(values, filters)
    scale = self.param("scale", nn.initializers.ones, (filters,))
    bias = self.param("bias", nn.initializers.zeros, (filters,))
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, (filters,))
    running_variance = self.variable("batch_stats", "var", jnp.ones, (filters,))
    if train:
      counts = None if mask is None else jnp.broadcast_to(mask, (*outer, 1)).reshape(-1, 1)
      center = jnp.mean(rows.astype(jnp.promote_types(rows.dtype, jnp.float32)), 0, where=counts)
      rows = rows - center.astype(rows.dtype)
      real, number = (rows, rows.shape[0]) if counts is None else (jnp.where(counts, rows, 0), counts.sum())
      covariance = _product(real.T, real, preferred_element_type=center.dtype) / number
      mean, variance = _product(center, matrix), (matrix * _product(covariance, matrix)).sum(0)
      if not self.is_initializing():
        running_mean.value = self._moved(running_mean.value, mean)
        running_variance.value = self._moved(running_variance.value, variance)
      shift = bias
    else:
      mean, variance = running_mean.value, running_variance.value
      shift = bias - mean * scale * lax.rsqrt(variance + self.epsilon)
    slope = scale * lax.rsqrt(variance + self.epsilon)
    outputs = _product(rows, (matrix * slope).astype(rows.dtype)) + shift.astype(rows.dtype)
    return outputs.reshape(*outer, filters)

  def _moved(self, average, value):
    return self.momentum * average + (1 - self.momentum) * value
