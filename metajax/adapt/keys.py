"""Typed keys in the data of an inner loop: each step draws new noise (dropout) from them."""

from collections.abc import Callable

import jax

from metajax.tree import is_key
from metajax.types import Array, Data, Key


def has_keys(data: Data) -> bool:
  """Whether any leaf of the data is a typed key, `jax.random.key(seed)`, or an array of them."""
  return any(map(is_key, jax.tree.leaves(data)))


def of_step(data: Data, step: Array | int) -> Data:
  """The data of one step: every key becomes `fold_in(key, step)`."""
  return _with_keys(lambda key: jax.random.fold_in(key, step), data)


def split(data: Data) -> tuple[Data, Data]:
  """Two copies of the data with different keys, for two consecutive inner loops that both count from step 0."""
  both = jax.random.split
  return _with_keys(lambda key: both(key)[0], data), _with_keys(lambda key: both(key)[1], data)


def _with_keys(change: Callable[[Key], Key], data):
  def changed(x):
    if not is_key(x):
      return x
    each = change
    for _ in range(x.ndim):
      each = jax.vmap(each)
    return each(x)

  return jax.tree.map(changed, data)
