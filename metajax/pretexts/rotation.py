"""Rotation prediction (RotNet, arXiv:1803.07728)."""

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Examples, PretextFn

TURNS = 4


def rotation(*, every: bool = False) -> PretextFn:
  """Images rotated by 0, 90, 180 or 270 degrees counterclockwise, labeled with the rotation.

  Quarter turns move pixels without changing them, so no trace of resampling gives the answer away.

  Args:
    every: whether each image appears in all four rotations, as in the paper: rows `4 i` to `4 i + 3` are those of
      image `i`. By default each image appears once, in a uniformly drawn rotation.

  Returns:
    `pretext(key, images)`: `[n, side, side, c]` to `Examples` of `n` images (`4 n` with `every`) and their one-hot
    labels `[n, 4]`. It raises ValueError if images are not square.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from metajax.pretexts import rotation
    >>> turned, labels = rotation(every=True)(jax.random.key(0), jnp.ones((2, 8, 8, 3)))
    >>> turned.shape, labels.shape
    ((8, 8, 8, 3), (8, 4))
  """

  def pretext(key, images):
    if images.ndim != 4 or images.shape[1] != images.shape[2]:
      raise ValueError(f"expected square images [n, side, side, channels], got {list(images.shape)}")
    if every:
      all_turned = jnp.stack([jnp.rot90(images, turn, (1, 2)) for turn in range(TURNS)], 1)
      labels = jnp.tile(jnp.eye(TURNS), (len(images), 1))
      return Examples(all_turned.reshape(-1, *images.shape[1:]), labels)
    rows = jnp.arange(len(images))
    turns = jax.vmap(lambda row: jax.random.randint(jax.random.fold_in(key, row), (), 0, TURNS))(rows)
    return Examples(jax.vmap(turned)(jnp.asarray(images), turns), jax.nn.one_hot(turns, TURNS))

  return pretext


def turned(image: Array, turns: Array) -> Array:
  """A square image `[side, side, c]` rotated by 0 to 3 quarter turns counterclockwise."""
  return lax.switch(turns, [lambda turn=turn: jnp.rot90(image, turn) for turn in range(TURNS)])
