"""A view of one example, taken of all rows of a batch: on any number of hosts and devices the same."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.types import Batch, Episode, Examples, Inputs, Key


def each_row(view: Callable, key: Key, inputs: Inputs) -> Inputs:
  """The view of each row `i` of `[n, ...]`, with the key `fold_in(key, i)`."""
  rows = jax.tree.leaves(inputs)[0].shape[0]
  return jax.vmap(lambda row, x: view(jax.random.fold_in(key, row), x))(jnp.arange(rows), inputs)


def of_batch(view: Callable, key: Key, batch: Batch) -> Batch:
  """The view of each picture of a batch, all with keys of their own; labels stay.

  Args:
    view: `(key, picture) -> picture`.
    key: of all of them.
    batch: `Episode`s `[tasks, n, ...]`, `Examples` `[n, ...]`, or any other tree of pictures `[n, ...]`.
  """
  if isinstance(batch, Episode):
    parts = zip(jax.random.split(key), batch, strict=True)
    rows = lambda key, pictures: each_row(view, key, pictures)
    tasks = lambda key, inputs: _each_leaf(lambda key, x: each_row(rows, key, x), key, inputs)
    return Episode(*(part._replace(inputs=tasks(key, part.inputs)) for key, part in parts))
  rows = lambda inputs: _each_leaf(lambda key, x: each_row(view, key, x), key, inputs)
  return batch._replace(inputs=rows(batch.inputs)) if isinstance(batch, Examples) else rows(batch)


def _each_leaf(function, key, inputs):
  leaves, structure = jax.tree.flatten(inputs)
  keys = jax.random.split(key, len(leaves))
  return structure.unflatten([function(k, leaf) for k, leaf in zip(keys, leaves, strict=True)])
