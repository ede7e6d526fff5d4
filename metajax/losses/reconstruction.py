"""Losses of what is reconstructed: patches of pictures in, a scalar out."""

import jax.numpy as jnp

from metajax.losses.tiles import mean_of
from metajax.types import Array, Scalar


def masked_reconstruction(reconstructed: Array, patches: Array, masked: Array) -> Scalar:
  """The mean over masked patches and their pixels of `(reconstructed - patches)^2` (arXiv:2111.06377).

  Args:
    reconstructed: `[n, patches, pixels]`.
    patches: as they were, `[n, patches, pixels]`; the paper's are `normalised_patches`.
    masked: `[n, patches]`, not negative: of each patch in the mean, 0 for one that was seen. Without any the loss is 0.

  Raises:
    ValueError: if shapes do not fit.
  """
  if reconstructed.shape != patches.shape or masked.shape != patches.shape[:-1]:
    shapes = ", ".join(str(list(x.shape)) for x in (reconstructed, patches, masked))
    raise ValueError(f"expected patches [n, patches, pixels], twice, and [n, patches], got shapes {shapes}")
  return mean_of(masked, jnp.square(reconstructed - patches).mean(-1))


def normalised_patches(patches: Array, epsilon: float = 1e-6) -> Array:
  """Each patch with mean 0 and variance 1 over its own pixels, `(p - mean) / sqrt(variance + epsilon)`.

  `[..., pixels] -> [..., pixels]`; one that is even all over is 0. The variance is the unbiased one, as in the
  authors' code.
  """
  mean, deviation = patch_statistics(patches, epsilon)
  return (patches - mean) / deviation


def patch_statistics(patches: Array, epsilon: float = 1e-6) -> tuple[Array, Array]:
  """The mean and the deviation that `normalised_patches` takes off: `[..., pixels] -> [..., 1]` each."""
  return patches.mean(-1, keepdims=True), jnp.sqrt(jnp.var(patches, -1, keepdims=True, ddof=1) + epsilon)
