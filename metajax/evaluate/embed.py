"""Frozen features of every example, each computed exactly once."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable
from typing import Any

import jax
import numpy as np

from metajax import checks
from metajax.mesh import host_batches, process_shard, replicate, shard_padded, to_host
from metajax.pixels import images_to_float
from metajax.shards import host_slice
from metajax.types import Batches, Examples, Params, State


def embed_dataset(embed: Callable, params: Params, state: State, batches: Batches | Iterable[Examples]) -> Examples:
  """Embeds every example of an evaluation's batches.

  A batch that is short, or that the number of devices does not divide, is padded and the padding is removed afterwards:
  each example counts once, and a single shape is compiled. Params and state must stay bit-identical. With several
  hosts, each embeds its share and all receive the full result.

  Args:
    embed: `(params, state, inputs) -> [n, d]`, a Learner's `embed`.
    params, state: those of the trained learner.
    batches: `batches(start, shard)` of `Examples` with labels `[n, ...]`, e.g. `data.eval_batches(source, ...)`, where
      each host reads only its share; or an iterable of full batches.

  Returns:
    `Examples` of float32 embeddings `[all, d]`, with their labels unchanged.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if no batch is given, or an example lacks a feature or a label.
    FloatingPointError: if a feature, a parameter or a value of the state is not finite; the message names it.
    RuntimeError: if params or state changed.

  Example:
    >>> import numpy as np
    >>> from metajax.evaluate import embed_dataset
    >>> from metajax.types import Examples
    >>> batch = Examples(np.ones((4, 3), np.float32), np.array([0, 1, 2, 3]))
    >>> embed_dataset(lambda params, state, x: x @ params, np.eye(3, 2), {}, [batch]).inputs.shape
    (4, 2)
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
      rows = len(there) // process_shard()[1]  # of the first batch, the same on every host
      found.append(_rows_of(run(*shared, inputs), there, len(batch.labels)))
      labels.append(_of_all_hosts(np.asarray(batch.labels)))
  if not found:
    raise ValueError("expected examples to embed, got no batch")
  found = np.concatenate(found)
  checks.finite("the features of examples", found, error=FloatingPointError)
  return Examples(found, np.concatenate(labels))


def check_trained(params: Params, state: State):
  """Raises if params or state are broken: such a learner may still give finite outputs, and score at chance.

  An infinity in the state is allowed, since a state may hold a bound.

  Raises:
    FloatingPointError: if a parameter is not finite or the state holds a NaN; the message names the first.
  """
  for path, value in checks.not_finite(params).items():
    raise FloatingPointError(f"expected finite parameters, got {value} in the parameter {path}")
  for path, value in checks.not_finite(state).items():
    if np.isnan(value):
      raise FloatingPointError(f"expected a state without NaN, got one in {path}")


@contextlib.contextmanager
def assert_unchanged(*trees: Any) -> Generator[None]:
  """A context manager which checks that its block leaves arrays bit-identical.

  Args:
    *trees: pytrees of arrays.

  Raises:
    RuntimeError: if an array changed; the message names the first.
  """
  before = jax.tree.map(np.array, to_host(trees))
  yield
  for (path, was), now in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(trees), strict=True):
    if was.tobytes() != to_host(now).tobytes():
      raise RuntimeError(f"expected frozen arrays, but {jax.tree_util.keystr(path)} was changed")


def _rows_of(embedded, there, labeled: int) -> np.ndarray:
  """The embeddings of the rows that are not padding; raises unless each has an embedding and a label."""
  found = np.asarray(to_host(embedded), np.float32)
  if found.shape[:1] != there.shape or not found.ndim > 1:
    raise ValueError(f"expected an embedding [{len(there)}, d] of {len(there)} inputs, got {list(found.shape)}")
  if process_shard()[1] == 1 and labeled != there.sum():
    raise ValueError(f"expected a label for each of {there.sum()} inputs, got {labeled}")
  return found[there]


def _own(batch):
  """This host's rows of a full batch."""
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
  return jax.jit(lambda params, state, inputs: embed(params, state, images_to_float(inputs)))
