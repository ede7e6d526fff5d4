"""Losses of what is reconstructed: patches of images in, a scalar out."""

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
    patches: as they were, `[n, patches, pixels]`; the paper's are `normalized_patches`.
    masked: `[n, patches]`, not negative: of each patch in the mean, 0 for one that was seen, whatever it holds. Without
      any the loss is 0.

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
  """Each patch with mean 0 and variance 1 over its own pixels, `(p - mean) / sqrt(variance + epsilon)`.

  `[..., pixels] -> [..., pixels]`, in 32 bits at least; one that is even all over is 0. The variance is the unbiased
  one, as in the authors' code.

  Raises:
    ValueError: if patches are not floating, of at least 2 pixels, or `epsilon` is not above 0.
  """
  mean, deviation = patch_statistics(patches, epsilon)
  return (wide(patches) - mean) / deviation


def patch_statistics(patches: AnyArray, epsilon: float = 1e-6) -> tuple[Array, Array]:
  """The mean and the deviation that `normalized_patches` takes off: `[..., pixels] -> [..., 1]` each.

  Raises:
    ValueError: as `normalized_patches`.
  """
  checks.floating("patches", patches, ..., "pixels")
  checks.scalar("epsilon", epsilon)
  checks.positive("epsilon", epsilon)
  if patches.shape[-1] < 2:
    raise ValueError(f"expected patches of at least 2 pixels, got an array of shape {list(patches.shape)}")
  patches = wide(patches)
  mean = patches.mean(-1, keepdims=True)
  size = jnp.maximum(jnp.abs(patches - mean).max(-1, keepdims=True), 1)  # by which no square overflows
  size = jnp.where(jnp.isinf(size), jnp.nan, lax.stop_gradient(size))
  # jax's stubs lack the argument `mean` of its var.
  variance = jnp.var((patches - mean) / size, -1, keepdims=True, mean=0, ddof=1)  # ty: ignore[unknown-argument]
  return mean, size * jnp.sqrt(variance + epsilon / size**2)
