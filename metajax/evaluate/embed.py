"""Frozen features of every example, each counted once."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable
from typing import Any

import jax
import numpy as np

from metajax import checks
from metajax.mesh import host_batches, process_shard, replicate, shard_padded, to_host
from metajax.shards import host_slice
from metajax.types import Batches, Examples, Params, State


def embed_dataset(embed: Callable, params: Params, state: State, batches: Batches | Iterable[Examples]) -> Examples:
  """The embedding of every example of an evaluation's batches.

  A batch that is short, or that the devices do not divide, is filled up and cut again, so that each example counts once
  and one shape is compiled. Params and state are the same to the bit afterwards, or an error says so. Of several hosts
  each embeds its own share, and all are given all of it.

  Args:
    embed: `(params, state, inputs) -> [n, d]`, a Learner's `embed`.
    params, state: of the trained learner.
    batches: `batches(start, shard)` of `Examples`, of any labels `[n, ...]`, such as `data.eval_batches(source, ...)`,
      of which each host reads its share alone; or the whole batches, one after the other.

  Returns:
    `Examples` of float32 `[all, d]`, and their labels as they were.

  Raises:
    TypeError: if `embed` is no function.
    ValueError: if there is no batch, or there is not a feature and a label for each example.
    FloatingPointError: if a feature, a parameter or a value of the state is not finite, naming it.
    RuntimeError: if params or state were changed.
  """
  checks.function("embed", embed, "(params, state, inputs) -> [n, d], such as a Learner's")
  run, found, labels, rows = _compiled(embed), [], [], 0
  with assert_unchanged(params, state):
    shared = replicate((params, state))
    check_trained(*shared)
    for batch in host_batches(batches) if callable(batches) else map(_own, batches):
      if rows and len(batch.labels) > rows:
        raise ValueError(f"expected batches of at most the first one's {rows} rows, got {len(batch.labels)}")
      inputs, there = shard_padded(batch.inputs, rows)
      rows = len(there) // process_shard()[1]  # of the first batch, on every host alike
      found.append(_rows_of(run(*shared, inputs), there, len(batch.labels)))
      labels.append(_of_all_hosts(np.asarray(batch.labels)))
  if not found:
    raise ValueError("expected examples to embed, got no batch")
  found = np.concatenate(found)
  checks.finite("the features of examples", found, error=FloatingPointError)
  return Examples(found, np.concatenate(labels))


def check_trained(params: Params, state: State):
  """Refuses a learner that is broken: what it gives may be finite all the same, and score as chance does.

  An infinity in the state passes, since a state may hold a bound.

  Raises:
    FloatingPointError: naming the first parameter that is not finite, or the first NaN of the state.
  """
  for path, value in checks.not_finite(params).items():
    raise FloatingPointError(f"expected finite parameters, got {value} in the parameter {path}")
  for path, value in checks.not_finite(state).items():
    if np.isnan(value):
      raise FloatingPointError(f"expected a state without NaN, got one in {path}")


@contextlib.contextmanager
def assert_unchanged(*trees: Any) -> Generator[None]:
  """Proves that what is done within it leaves arrays as they are, to the bit.

  Raises:
    RuntimeError: naming the first array that was changed.
  """
  before = jax.tree.map(np.array, to_host(trees))
  yield
  for (path, was), now in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(trees), strict=True):
    if was.tobytes() != to_host(now).tobytes():
      raise RuntimeError(f"expected frozen arrays, but {jax.tree_util.keystr(path)} was changed")


def _rows_of(embedded, there, labeled: int) -> np.ndarray:
  """The embeddings of the examples that are there, if each has one and a label."""
  found = np.asarray(to_host(embedded), np.float32)
  if found.shape[:1] != there.shape or not found.ndim > 1:
    raise ValueError(f"expected an embedding [{len(there)}, d] of {len(there)} inputs, got {list(found.shape)}")
  if process_shard()[1] == 1 and labeled != there.sum():
    raise ValueError(f"expected a label for each of {there.sum()} inputs, got {labeled}")
  return found[there]


def _own(batch):
  """This host's rows of a whole batch."""
  rows = len(batch.labels)
  if different := [len(x) for x in jax.tree.leaves(batch.inputs) if len(x) != rows]:
    raise ValueError(f"expected a label for each of {different[0]} inputs, got {rows}")
  return jax.tree.map(lambda x: x[host_slice(rows, process_shard())], batch)


def _of_all_hosts(labels):
  if process_shard()[1] == 1:
    return labels
  given, there = shard_padded(labels)
  return to_host(given)[there].astype(labels.dtype)


@functools.lru_cache(maxsize=64)
def _compiled(embed):
  return jax.jit(embed)
