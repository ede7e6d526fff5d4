"""How was a picture turned? (RotNet, arXiv:1803.07728)"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.types import Examples

TURNS = 4


def rotation(*, every: bool = False) -> Callable:
  """`pretext(key, pictures)`: pictures turned by 0, 90, 180 or 270 degrees counterclockwise, labelled with which.

  Quarter turns move pixels and change none, so that no trace of resampling tells them apart.

  Args:
    every: all four turns of each picture, rows `4 i` to `4 i + 3` those of picture `i`, as in the paper; by default
      one that is drawn uniformly.

  Returns:
    `pretext`: `[n, side, side, c]` to `Examples` of as many rows, or four times as many, and labels one-hot `[n, 4]`.
    It raises ValueError if pictures are not square.
  """

  def pretext(key, pictures):
    if pictures.ndim != 4 or pictures.shape[1] != pictures.shape[2]:
      raise ValueError(f"expected square pictures [n, side, side, channels], got {list(pictures.shape)}")
    turned = jnp.stack([jnp.rot90(pictures, turn, (1, 2)) for turn in range(TURNS)], 1)
    if every:
      labels = jnp.tile(jnp.eye(TURNS), (len(pictures), 1))
      return Examples(turned.reshape(-1, *pictures.shape[1:]), labels)
    draw = lambda row: jax.random.randint(jax.random.fold_in(key, row), (), 0, TURNS)
    turns = jax.vmap(draw)(jnp.arange(len(pictures)))
    chosen = jnp.take_along_axis(turned, turns[:, None, None, None, None], 1)[:, 0]
    return Examples(chosen, jax.nn.one_hot(turns, TURNS))

  return pretext
