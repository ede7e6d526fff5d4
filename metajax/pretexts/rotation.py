"""How was an image turned? (RotNet, arXiv:1803.07728)"""

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Examples, PretextFn

TURNS = 4


def rotation(*, every: bool = False) -> PretextFn:
  """`pretext(key, images)`: images turned by 0, 90, 180 or 270 degrees counterclockwise, labeled with which.

  Quarter turns move pixels and change none, so that no trace of resampling tells them apart.

  Args:
    every: all four turns of each image, rows `4 i` to `4 i + 3` those of image `i`, as in the paper; by default
      one that is drawn uniformly.

  Returns:
    `pretext`: `[n, side, side, c]` to `Examples` of as many rows, or four times as many, and labels one-hot `[n, 4]`.
    It raises ValueError if images are not square.
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
  """A square image `[side, side, c]` turned by 0 to 3 quarters counterclockwise."""
  return lax.switch(turns, [lambda turn=turn: jnp.rot90(image, turn) for turn in range(TURNS)])
