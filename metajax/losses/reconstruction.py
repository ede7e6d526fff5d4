"""Reconstruction losses: patches of images in, a scalar out."""

import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.losses.sums import as_weights, mean_of
from metajax.tree import wide
from metajax.types import AnyArray, Array, Scalar


def masked_reconstruction(reconstructed: Array, patches: AnyArray, masked: Array) -> Scalar:
  """The mean over masked patches and their pixels of `(reconstructed - patches)^2` (arXiv:2111.06377).

  Args:
    reconstructed: `[n, patches, pixels]`.
    patches: Targets, `[n, patches, pixels]`; the paper uses `normalized_patches`.
    masked: Weights of the patches in the mean, `[n, patches]`, at least 0; 0 for a visible patch, whatever it holds.
      If all are 0 the loss is 0.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: if shapes do not fit, patches are not floating, or `masked` is negative.
  """
  checks.floating("reconstructed", reconstructed)
  checks.floating("patches", patches)
  checks.real("masked", masked)
  shapes = [list(jnp.shape(x)) for x in (reconstructed, patches, masked)]
  if shapes[0] != shapes[1] or shapes[2] != shapes[1][:-1] or len(shapes[2]) != 2:
    given = ", ".join(map(str, shapes))
    raise ValueError(f"expected patches [n, patches, pixels], twice, and [n, patches], got shapes {given}")
  checks.weights("masked", masked)
  masked = as_weights(masked, wide(patches).dtype)
  apart = jnp.where(masked[..., None] == 0, 0, wide(reconstructed) - wide(patches))
  return mean_of(masked, jnp.square(apart).mean(-1))


def normalized_patches(patches: AnyArray, epsilon: float = 1e-6) -> Array:
  """Normalizes each patch to mean 0 and variance 1 over its pixels: `(p - mean) / sqrt(variance + epsilon)`.

  `[..., pixels] -> [..., pixels]`, of at least 32 bits; a constant patch becomes 0. The variance is the unbiased one,
  as in the authors' code.

  Raises:
    ValueError: if patches are not floating, of at least 2 pixels, or `epsilon` is not above 0.
  """
  mean, deviation = patch_statistics(patches, epsilon)
  return (wide(patches) - mean) / deviation


def patch_statistics(patches: AnyArray, epsilon: float = 1e-6) -> tuple[Array, Array]:
  """The mean and standard deviation that `normalized_patches` uses: `[..., pixels] -> [..., 1]` each.

  Raises:
    ValueError: as for `normalized_patches`.
  """
  checks.floating("patches", patches, ..., "pixels")
  checks.scalar("epsilon", epsilon)
  checks.positive("epsilon", epsilon)
  if patches.shape[-1] < 2:
    raise ValueError(f"expected patches of at least 2 pixels, got an array of shape {list(patches.shape)}")
  patches = wide(patches)
  mean = patches.mean(-1, keepdims=True)
  size = jnp.maximum(jnp.abs(patches - mean).max(-1, keepdims=True), 1)  # scaled by it, squares cannot overflow
  size = jnp.where(jnp.isinf(size), jnp.nan, lax.stop_gradient(size))
  # jax's stubs lack the argument `mean` of its var.
  variance = jnp.var((patches - mean) / size, -1, keepdims=True, mean=0, ddof=1)  # ty: ignore[unknown-argument]
  return mean, size * jnp.sqrt(variance + epsilon / size**2)
