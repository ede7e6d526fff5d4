"""Fused output layer and cross-entropy of a language model, without holding the logits of the full vocabulary."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks, mesh
from metajax.losses.sums import NO_LOGIT, add_exponentials, as_weights, divide, mean_of, no_sums, present
from metajax.mesh import PairLayout, as_varying
from metajax.types import Array, Scalar

Implementation = Literal["dense", "tiled"]
LARGEST_DENSE = 2**24  # logits per device
TILE = 2**22  # logits per tile
LEAST = 128  # columns per tile, so that products stay matrix products


def linear_cross_entropy(
  features: Array,
  embedding: Array,
  labels: Array,
  *,
  weights: Array | None = None,
  implementation: Implementation | None = None,
  block_size: int | None = None,
) -> Scalar:
  """The weighted mean over tokens of `-log softmax(features @ embedding.T)` at the labels, in nats.

  The tiled implementation holds one tile of the vocabulary's logits at a time, once forward and once backward: beyond
  its arguments and their gradients its memory does not depend on the vocabulary. Its values, gradients and higher
  derivatives equal the dense ones to rounding. Under a mesh the tokens are sharded over devices.

  Args:
    features: `[..., d]`, of any floating type; products accumulate, and the rest is computed, in 32 bits.
    embedding: `[vocab_size, d]`.
    labels: Integers `[...]`, from 0 to `vocab_size - 1`; -1 is padding, with weight 0. Any other value raises; while
      tracing it makes the loss NaN.
    weights: Token weights `[...]`, at least 0; by default 1. They are not differentiated. If all are 0 the loss is 0.
    implementation: "dense" or "tiled"; by default dense up to 2^24 logits per device.
    block_size: Maximum number of columns per tile; by default 2^22 logits' worth, at least 128.

  Returns:
    A scalar in 32 bits.

  Raises:
    ValueError: if shapes do not fit, features or embedding are not floating, a label is outside the vocabulary, a
      weight is below 0, `implementation` is unknown, or `block_size` is below 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax.losses import linear_cross_entropy
    >>> features, embedding = jnp.zeros([2, 3, 8]), jnp.ones([50, 8])
    >>> labels = jnp.array([[1, 2, 3], [4, -1, -1]])  # -1 is padding
    >>> round(float(linear_cross_entropy(features, embedding, labels)), 4)  # ln 50
    3.912
  """
  features, labels, weights = _rows(features, embedding, labels, weights)
  if implementation is not None:
    checks.choice("implementation", implementation, Implementation)
  if block_size is not None:
    checks.count("block_size", block_size)
  count, vocab_size = len(features), len(embedding)
  if implementation is None:
    implementation = "dense" if count // mesh.device_count() * vocab_size <= LARGEST_DENSE else "tiled"
  if implementation == "dense":
    return mean_of(weights, _dense(features, embedding, labels))

  def compute(axis, embedding, rows):
    return _tiled(PairLayout(axis, False, _columns(block_size, len(rows[0]), embedding)), embedding, *rows)

  return mesh.over_rows(compute, embedding, (features, labels, weights))


def linear_log_prob(features: Array, embedding: Array, labels: Array, *, block_size: int | None = None) -> Array:
  """`log softmax(features @ embedding.T)` at each label, in nats: `[..., d], [vocab_size, d], [...] -> [...]`.

  Meant for evaluation: it runs tile by tile. The result is 0 where a label is -1 (padding). Arguments and errors are
  those of `linear_cross_entropy`.
  """
  if block_size is not None:
    checks.count("block_size", block_size)
  rows, flat, weights = _rows(features, embedding, labels, None)
  where = PairLayout(None, False, _columns(block_size, len(rows), embedding))
  largest, sums, at_label = _sums(where, embedding, rows, flat)
  return jnp.where(weights == 0, 0, weights * (at_label - largest - jnp.log(sums))).reshape(labels.shape)


def _rows(features, embedding, labels, weights):
  checks.floating("features", features)
  checks.floating("embedding", embedding)
  checks.integers("labels", labels)
  if (
    jnp.shape(features)[:-1] != jnp.shape(labels)
    or jnp.ndim(embedding) != 2
    or jnp.shape(features)[-1:] != (jnp.shape(embedding)[-1],)
  ):
    shapes = ", ".join(str(list(jnp.shape(x))) for x in (features, embedding, labels))
    raise ValueError(f"expected features [..., d], embedding [vocabulary, d] and labels [...], got shapes {shapes}")
  checks.integers("labels", labels, low=-1, high=len(embedding))
  labels = jnp.asarray(labels)
  labels = labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels  # the vocabulary may exceed 8 or 16 bits
  if weights is not None:
    checks.real("weights", weights)
  if weights is not None and jnp.shape(weights) != labels.shape:
    raise ValueError(f"expected one weight per label, {list(labels.shape)}, got {list(jnp.shape(weights))}")
  if weights is None:
    weights = jnp.float32(1)
  else:
    checks.weights("weights", weights)
    weights = as_weights(weights, jnp.float32)
  known = (labels >= 0) & (labels < len(embedding))
  weights = jnp.where(known, weights, jnp.where(labels + 1 == 0, 0, jnp.nan))
  return features.reshape(-1, features.shape[-1]), labels.reshape(-1), weights.reshape(-1)


def _columns(block_size, count, embedding) -> int:
  """Returns the columns per tile; the last tile overlaps the one before if they do not divide the vocabulary."""
  wanted = max(LEAST, TILE // max(1, count)) if block_size is None else block_size
  return min(wanted, len(embedding))


def _dense(features, embedding, labels):
  logits = _product(features, embedding.astype(features.dtype))
  at_label = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], 1)[:, 0]
  return jax.nn.logsumexp(logits, axis=-1) - at_label


def _product(rows, columns):
  return jnp.einsum("nd,vd->nv", rows, columns, preferred_element_type=jnp.float32)


def _tiles(where: PairLayout, embedding):
  """Returns the first column of each tile, and its first column that no earlier tile has."""
  count = -(-len(embedding) // where.block_size)
  new = jnp.arange(count) * where.block_size
  return jnp.minimum(new, len(embedding) - where.block_size), new


def _tile(where, embedding, features, first, new):
  """Returns a tile's embedding rows, column indices and logits; columns of an earlier tile are masked."""
  columns = lax.dynamic_slice_in_dim(embedding, first, where.block_size).astype(features.dtype)
  numbers = first + jnp.arange(where.block_size)
  return columns, numbers, jnp.where(numbers >= new, _product(features, columns), NO_LOGIT)


def _sums(where, embedding, features, labels):
  """Returns per row the largest logit, the sum of `exp(logit - largest)`, and the label's logit."""

  def visit(carry, tile):
    so_far, at_label = carry
    _, numbers, logits = _tile(where, embedding, features, *tile)
    here = (numbers == labels[:, None]) & (numbers >= tile[1])
    return (add_exponentials(so_far, logits, 1), at_label + jnp.where(here, logits, 0).sum(1)), None

  rows = features.astype(jnp.float32)
  (largest, sums), _ = nothing = as_varying((no_sums(rows), jnp.zeros_like(rows[:, 0])), (features, labels))
  ((largest, sums), at_label), _ = lax.scan(visit, nothing, _tiles(where, embedding))
  return largest, sums, at_label


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _tiled(where, embedding, features, labels, weights):
  return _tiled_pass(where, embedding, features, labels, weights)[0]


@_tiled.defjvp
def _(where, primals, tangents):
  loss, (of_embedding, of_features) = _tiled_pass(where, *primals, gradients=True)
  change = jnp.vdot(of_embedding, tangents[0].astype(jnp.float32))
  return loss, mesh.psum_if_sharded(change + jnp.vdot(of_features, tangents[1].astype(jnp.float32)), where)


def _tiled_pass(where, embedding, features, labels, weights, gradients=False):
  """Returns the loss, and its gradients with respect to the full embedding and this device's rows."""
  largest, sums, at_label = _sums(where, embedding, features, labels)
  weight = mesh.psum_if_sharded(weights.sum(), where)
  each = present(largest + jnp.log(sums) - at_label, weights)
  loss = divide(mesh.psum_if_sharded((weights * each).sum(), where), weight)
  if not gradients:
    return loss, None
  share = divide(weights, weight)

  def visit(carry, tile):
    of_embedding, of_features = carry
    columns, numbers, logits = _tile(where, embedding, features, *tile)
    slope = (share / sums)[:, None] * jnp.exp(logits - largest[:, None])
    slope -= jnp.where((numbers == labels[:, None]) & (numbers >= tile[1]), share[:, None], 0)
    slope = slope.astype(features.dtype)
    own = jnp.einsum("nv,nd->vd", slope, features, preferred_element_type=jnp.float32)
    before = lax.dynamic_slice_in_dim(of_embedding, tile[0], where.block_size)
    of_embedding = lax.dynamic_update_slice_in_dim(of_embedding, before + own, tile[0], 0)
    added = jnp.einsum("nv,vd->nd", slope, columns, preferred_element_type=jnp.float32)
    return (of_embedding, of_features + added), None

  start = jnp.zeros(embedding.shape, jnp.float32), jnp.zeros(features.shape, jnp.float32)
  start = as_varying(start, (features, labels))
  return loss, lax.scan(visit, start, _tiles(where, embedding))[0]
