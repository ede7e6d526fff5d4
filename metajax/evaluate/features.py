"""Frozen features of every example, each counted once."""

import contextlib
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np

from metajax.mesh import device_count, replicate, shard_batch
from metajax.types import Examples, Params, State


def features(embed: Callable, params: Params, state: State, batches: Iterable[Examples]) -> Examples:
  """The embedding of every example of an evaluation's batches.

  A batch that is short, or that the devices do not divide, is filled up and cut again, so that each example counts once
  and one shape is compiled. Params and state are the same to the bit afterwards, or an error says so.

  Args:
    embed: `(params, state, inputs) -> [n, d]`, a Learner's `embed`.
    params, state: of the trained learner.
    batches: `Examples` one after the other, of any labels `[n, ...]`, such as `data.in_order(source, ...)()`.

  Returns:
    `Examples` of float32 `[all, d]`, and their labels as they were.

  Raises:
    ValueError: if there is no batch.
    FloatingPointError: if a feature is not finite, naming its row.
    RuntimeError: if params or state were changed.
  """
  run, found, labels, rows = _compiled(embed), [], [], 0
  with frozen(params, state):
    shared = replicate((params, state))
    for batch in batches:
      here = len(batch.labels)
      rows = rows or -(-here // device_count()) * device_count()
      if here > rows:
        raise ValueError(f"expected batches of at most the first one's {rows} rows, got {here}")
      place = np.minimum(np.arange(rows), here - 1)
      inputs = jax.tree.map(lambda x: np.asarray(x)[place], batch.inputs)  # noqa: B023
      found.append(np.asarray(run(*shared, shard_batch(inputs)), np.float32)[:here])
      labels.append(np.asarray(batch.labels))
  if not found:
    raise ValueError("expected examples to embed, got no batch")
  found = np.concatenate(found)
  bad = np.flatnonzero(~np.isfinite(found).all(-1))
  if bad.size:
    raise FloatingPointError(f"features were not finite, first those of example {bad[0]}")
  return Examples(found, np.concatenate(labels))


@contextlib.contextmanager
def frozen(*trees):
  """Proves that what is done within it leaves arrays as they are, to the bit.

  Raises:
    RuntimeError: naming the first array that was changed.
  """
  before = jax.tree.map(lambda x: np.array(x), trees)
  yield
  for (path, was), now in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(trees), strict=True):
    if was.tobytes() != np.asarray(now).tobytes():
      raise RuntimeError(f"expected frozen arrays, but {jax.tree_util.keystr(path)} was changed")


@functools.lru_cache(maxsize=64)
def _compiled(embed):
  return jax.jit(embed)
