"""Verification: are these two pictures of one class?"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.types import Examples, Pair


def distorted_pairs(view: Callable) -> Callable:
  """A pretext that distorts both pictures of each given pair on its own (Koch 2015): `Examples` of a `Pair` to such.

  Args:
    view: `(key, example) -> example`, such as `views.image.koch()`.
  """

  def pretext(key, pairs: Examples) -> Examples:
    first, second = (each_row(view, k, x) for k, x in zip(jax.random.split(key), pairs.inputs, strict=True))
    return pairs._replace(inputs=Pair(first, second))

  return pretext


def one_example_pairs(view: Callable) -> Callable:
  """A pretext for pictures of which each is a class of its own: pictures `[n, ...]` to `n` pairs of distortions.

  Every other pair is of one picture, the others are of a picture and the next one: half the same, half different. Of
  labelled `Examples`, the pictures are taken and the labels are not looked at, so that two of a class may be called
  different.

  Args:
    view: `(key, example) -> example`, drawn anew for each half of each pair.
  """

  def pretext(key, batch) -> Examples:
    pictures = batch.inputs if isinstance(batch, Examples) else batch
    rows = jax.tree.leaves(pictures)[0].shape[0]
    same = jnp.arange(rows) % 2 == 0
    of_first, of_second = jax.random.split(key)

    def other(x):
      return jnp.where(same.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.roll(x, -1, 0))

    pair = Pair(each_row(view, of_first, pictures), each_row(view, of_second, jax.tree.map(other, pictures)))
    return Examples(pair, jax.nn.one_hot(same.astype(int), 2))

  return pretext


def each_row(view: Callable, key, inputs):
  """The view of each row, with the key `fold_in(key, row)` of its global row."""
  rows = jax.tree.leaves(inputs)[0].shape[0]
  return jax.vmap(lambda row, x: view(jax.random.fold_in(key, row), x))(jnp.arange(rows), inputs)
