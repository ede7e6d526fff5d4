"""Trees as arrays by name, with shapes and fingerprints to verify them."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from metajax.tree import is_integer, is_key

RENAMED = {"image": "picture", "log_l2": "log_strength"}  # today's parts of names -> those of earlier versions


def flatten(tree: Any) -> dict[str, jax.Array]:
  """Returns `{path in the tree: array}`; PRNG keys become their key data.

  Raises:
    ValueError: if two arrays have the same path.
  """
  flat = {}
  for name, leaf in named(tree):
    if name in flat:
      raise ValueError(f"expected unique paths in a tree to save, got {name!r} twice")
    flat[name] = jax.random.key_data(leaf) if is_key(leaf) else jnp.asarray(leaf)
  return flat


def named(tree: Any) -> Iterator[tuple[str, Any]]:
  """Yields (path in the tree, leaf) for every leaf."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(path, simple=True, separator="."), leaf


def shapes(arrays: Mapping[str, Any]) -> dict[str, list]:
  """Returns `{name: [type, shape]}` as JSON values."""
  return {name: [str(x.dtype), list(x.shape)] for name, x in arrays.items()}


def saved_names(wanted: Iterable[str], there: Collection[str]) -> dict[str, str]:
  """Returns `{name: name in the checkpoint}`: today's name, or the one of an earlier version if only that exists."""
  former = {name: ".".join(RENAMED.get(part, part) for part in name.split(".")) for name in wanted}
  return {name: old if name not in there and old in there else name for name, old in former.items()}


def like_array(x: jax.Array) -> jax.ShapeDtypeStruct:
  """Returns the shape, type and sharding to restore an array with."""
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def unflatten(like: Any, arrays: Mapping[str, jax.Array]) -> Any:
  """Inverts `flatten`: a tree structured like `like`, with PRNG keys of the same implementations."""
  leaves = [
    jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if is_key(leaf) else array
    for leaf, array in zip(jax.tree.leaves(like), (arrays[name] for name in flatten(like)), strict=True)
  ]
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


def check_same(path: Path, there: Mapping[str, list], wanted: Mapping[str, list]):
  """Checks that a checkpoint's shapes equal the wanted ones.

  Raises:
    ValueError: if an array differs; the message names the first.
  """
  for name in [*wanted, *there]:
    if there.get(name) != wanted.get(name):
      said = [f"{name} {at[name][0]} {at[name][1]}" if name in at else f"no {name}" for at in (wanted, there)]
      raise ValueError(f"expected a checkpoint of this learner, with {said[0]}, got one with {said[1]} in {path}")


@jax.jit
def fingerprints(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """Returns a fingerprint per array: the sum modulo 2^32 of its words, each mixed bijectively with its position.

  A change of any single word changes the fingerprint, and an integer sum is the same on any number of devices.
  """

  def fingerprint(x):
    if x.dtype == bool or (is_integer(x) and jnp.iinfo(x.dtype).bits < 8):
      x = x.astype(jnp.int8)
    if jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 8:
      x = x.astype(jnp.float32)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
      x = jnp.stack([x.real, x.imag])
    width = min(x.dtype.itemsize, 4)
    words = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * width}")).astype(jnp.uint32)
    place = jax.lax.iota(jnp.uint32, math.prod(words.shape)).reshape(words.shape)
    mixed = (words ^ (place * jnp.uint32(0x85EBCA6B))) * jnp.uint32(0x9E3779B1)
    return jnp.sum((mixed ^ (mixed >> 16)) * jnp.uint32(0xC2B2AE35), dtype=jnp.uint32)

  return {name: fingerprint(x) for name, x in arrays.items()}
