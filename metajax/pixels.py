"""Stored images, bytes from 0 to 255, as numbers from 0 to 1."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import is_bytes
from metajax.types import Batch, Examples

# XLA divides by a constant as it multiplies by the rounded reciprocal, half of the time a bit off. The product with the
# reciprocal's first 16 bits is exact, so the sum of two products is the quotient to the bit, with or without FMA.
HIGH = np.float32(int(2**23 / 255) / 2**23)
LOW = np.float32(1 / 255 - float(HIGH))


def images_to_float(batch: Batch) -> Batch:
  """Converts the images of a batch from bytes to float32 in [0, 1], `x / 255` to the bit.

  A batch of `metajax.data` holds images as they were stored, so that a quarter of the bytes moves to the device. `fit`
  and the evaluations call this function inside their compiled steps; learners, augmentations and predictors see numbers
  from 0 to 1. Your own training loop calls it too.

  Args:
    batch: any pytree, e.g. `Examples`, an `Episode` or a `Pair`. A uint8 array of four or more axes holds images,
      `[..., n, height, width, channels]`; one of fewer axes may hold tokens.

  Returns:
    The same pytree; labels of `Examples`, and all arrays but images, are unchanged. NumPy arrays stay such.

  Example:
    >>> import numpy as np
    >>> from metajax import Examples, images_to_float
    >>> batch = images_to_float(Examples(np.full((1, 8, 8, 3), 51, np.uint8), np.eye(1)))
    >>> batch.inputs.dtype.name, round(float(batch.inputs.max()), 6)
    ('float32', 0.2)
  """
  return jax.tree.map(_examples_or_leaf, batch, is_leaf=lambda x: isinstance(x, Examples))


def _examples_or_leaf(x):
  if isinstance(x, Examples):
    return x._replace(inputs=jax.tree.map(_image, x.inputs))
  return _image(x)


def _image(x: Any) -> Any:
  if not is_bytes(x):
    return x
  if isinstance(x, np.ndarray):
    return x.astype(np.float32) / np.float32(255)
  value = jnp.asarray(x).astype(jnp.float32)
  return value * HIGH + value * LOW
