"""An augmentation of one example, applied to all rows of a batch: the same on any number of hosts and devices."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.mesh import device_count
from metajax.platforms import platform
from metajax.tree import padded_like, values_of
from metajax.types import Augmentation, Batch, Episode, Examples, Inputs, Key

IN_CACHE = 2**20  # bytes


def augment_batch(augmentation: Augmentation, key: Key, inputs: Inputs) -> Inputs:
  """Augments each row `i` with the key `fold_in(key, i)`.

  On a CPU it processes as many rows at a time as fit into the cache, up to five times as fast on larger images.

  Args:
    augmentation: `(key, example) -> example`.
    key: key of the batch.
    inputs: an array `[n, ...]`, or a pytree of such arrays.

  Returns:
    Augmented inputs `[n, ...]`.

  Raises:
    ValueError: if images are uint8: `metajax.images_to_float` scales them to [0, 1].

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from metajax.augment import augment_batch
    >>> from metajax.augment.image import gaussian_noise
    >>> images = jnp.ones((4, 16, 16, 3))
    >>> augment_batch(gaussian_noise(0.1), jax.random.key(0), images).shape
    (4, 16, 16, 3)
  """
  checks.not_bytes("images", inputs)
  leaves = jax.tree.leaves(inputs)
  rows = leaves[0].shape[0]

  def one(row, x):
    return augmentation(jax.random.fold_in(key, row), x)

  most = IN_CACHE * rows // max(1, sum(x.size * x.dtype.itemsize for x in leaves))
  if platform() != "cpu" or device_count() > 1 or most >= rows:
    return jax.vmap(one)(jnp.arange(rows), inputs)
  together = max(n for n in range(1, max(1, most) + 1) if rows % n == 0)
  return lax.map(lambda given: one(*given), (jnp.arange(rows), inputs), batch_size=together)


def augment_examples(augmentation: Augmentation, key: Key, batch: Batch) -> Batch:
  """Augments each image of a batch with a separate key; labels stay.

  Args:
    augmentation: `(key, image) -> image`.
    key: key of the batch.
    batch: `Episode`s `[tasks, n, ...]`, `Examples` `[n, ...]`, or any other pytree of images `[n, ...]`.

  Returns:
    The batch with augmented inputs.
  """
  if isinstance(batch, Episode):
    parts = zip(jax.random.split(key), batch, strict=True)
    of_rows = functools.partial(augment_batch, augmentation)
    of_tasks = functools.partial(augment_batch, of_rows)
    return Episode(*(part._replace(inputs=_each_leaf(of_tasks, key, part.inputs)) for key, part in parts))
  rows = functools.partial(_each_leaf, functools.partial(augment_batch, augmentation), key)
  return batch._replace(inputs=rows(batch.inputs)) if isinstance(batch, Examples) else rows(batch)


def _each_leaf(function, key, inputs):
  leaves, structure = jax.tree.flatten(values_of(inputs))
  keys = jax.random.split(key, len(leaves))
  changed = structure.unflatten([function(k, leaf) for k, leaf in zip(keys, leaves, strict=True)])
  return padded_like(changed, inputs)
