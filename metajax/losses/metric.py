"""Losses on pairs and triplets of embeddings: arrays in, a scalar out.

An all-zero row of labels is padding and has weight 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.tree import wide
from metajax.types import Array, Scalar

SOFT = "soft"  # instead of a margin


def binary_cross_entropy(logits: Array, labels: Array) -> Scalar:
  """The mean over pairs of `-y log sigmoid(z) - (1 - y) log(1 - sigmoid(z))`, in nats.

  Args:
    logits: `z`, `[n]`: logits for "same class".
    labels: One-hot `[n, 2]`: different, same. All-zero rows have weight 0, whatever their logits; if all rows are zero
      the loss is 0.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: if the shapes differ, logits are not floating, or labels are not one-hot.
  """
  checks.floating("logits", logits)
  checks.real("labels", labels)
  if jnp.ndim(logits) != 1 or jnp.shape(labels) != (len(logits), 2):
    shapes = f"{list(jnp.shape(logits))} and {list(jnp.shape(labels))}"
    raise ValueError(f"expected logits [n] and one-hot labels [n, 2], got {shapes}")
  checks.one_hot("labels", labels)
  there = labels.sum(-1)
  logits = jnp.where(there > 0, wide(logits), 0)
  each = labels[:, 0] * jax.nn.softplus(logits) + labels[:, 1] * jax.nn.softplus(-logits)
  return _mean(each, there)


def batch_cross_entropy(logits: Array, labels: Array) -> Scalar:
  """The class-balanced binary cross-entropy over all pairs of a labeled batch, in nats:

      1/2 mean_{i, j same class} -log sigmoid(z_ij) + 1/2 mean_{i, j different} -log(1 - sigmoid(z_ij)),   i != j

  Args:
    logits: `z`, `[n, n]`: logits for "same class".
    labels: One-hot `[n, classes]`; all-zero rows have weight 0. A mean without pairs is 0.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: if the shapes do not fit, logits are not floating, or labels are not one-hot.
  """
  checks.floating("logits", logits)
  same, other = relations(logits, labels)
  logits = jnp.where(same | other, wide(logits), 0)
  return (_mean(jax.nn.softplus(-logits), same) + _mean(jax.nn.softplus(logits), other)) / 2


def triplet_margin(anchor: Array, positive: Array, negative: Array, margin: float | str = 0.2) -> Scalar:
  """The mean over triplets of `max(0, |a - p|^2 - |a - n|^2 + margin)` (FaceNet, arXiv:1503.03832).

  Args:
    anchor, positive, negative: `[n, d]`.
    margin: Margin above 0, or "soft" for `log(1 + exp(|a - p|^2 - |a - n|^2))` (arXiv:1703.07737).

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: if shapes differ, the arrays are empty or not floating, or the margin is not above 0.
  """
  for name, rows in (("anchor", anchor), ("positive", positive), ("negative", negative)):
    checks.floating(name, rows)
  shapes = [list(jnp.shape(x)) for x in (anchor, positive, negative)]
  if len(shapes[0]) != 2 or shapes[1:] != shapes[:1] * 2:
    raise ValueError(f"expected three arrays [n, d] of one shape, got {shapes}")
  if not shapes[0][0]:
    raise ValueError(f"expected at least 1 triplet, got arrays of shape {shapes[0]}")

  def distance(other):
    return jnp.square(wide(anchor) - wide(other)).sum(-1)

  return hinge(margin)(distance(positive) - distance(negative)).mean()


def batch_hard(distances: Array, labels: Array, margin: float | str = 0.2) -> Scalar:
  """The batch-hard triplet loss (arXiv:1703.07737): the mean over anchors with their farthest positive and nearest
  negative.

      hinge(max_{p same class} D_ap - min_{n other class} D_an)

  Args:
    distances: `D`, squared distances between all rows, `[n, n]`.
    labels: One-hot `[n, classes]`. All-zero rows, and rows without a positive or without a negative, have weight 0. If
      all rows have weight 0 the loss is 0.
    margin: See `triplet_margin`.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: if the shapes do not fit, distances are not floating, labels are not one-hot, or the margin is not above
      0.
  """
  checks.floating("distances", distances)
  same, other = relations(distances, labels)
  distances = wide(distances)
  farthest = jnp.where(same, distances, -jnp.inf).max(-1)
  nearest = jnp.where(other, distances, jnp.inf).min(-1)
  valid = same.any(-1) & other.any(-1)
  gap = jnp.where(valid, farthest, 0) - jnp.where(valid, nearest, 0)
  return _mean(hinge(margin)(gap), valid)


def batch_semi_hard(distances: Array, labels: Array, margin: float | str = 0.2) -> Scalar:
  """The semi-hard triplet loss (arXiv:1503.03832): the mean over all positive pairs `(a, p)` with their semi-hard
  negative.

      hinge(D_ap - D_an),   n = the nearest row of another class that is farther than p; the farthest, if none is

  Args:
    distances, labels, margin: As for `batch_hard`; a pair without any negative has weight 0.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: as for `batch_hard`.
  """
  checks.floating("distances", distances)
  same, other = relations(distances, labels)
  distances = wide(distances)

  def negatives_of(anchor):
    """Returns the negative's index for each positive; indices have no gradient, so nothing is kept for it."""
    row, other = anchor
    farthest = jnp.argmax(jnp.where(other, row, -jnp.inf))
    beyond = other & ~(row[None] <= row[:, None])  # NaN distances count as farther, so that they are not ignored
    return jnp.where(beyond.any(-1), jnp.argmin(jnp.where(beyond, row[None], jnp.inf), -1), farthest)

  # One anchor at a time: nothing of size n^3 is held.
  negatives = lax.map(negatives_of, (lax.stop_gradient(distances), other))
  valid = same & other.any(-1, keepdims=True)
  gap = jnp.where(valid, distances, 0) - jnp.where(valid, jnp.take_along_axis(distances, negatives, -1), 0)
  return _mean(hinge(margin)(gap), valid)


def relations(pairwise: Array, labels: Array) -> tuple[Array, Array]:
  """Returns the masks of positive pairs (same class, not the row itself) and negative pairs: bool `[n, n]` each.

  Raises:
    ValueError: if `pairwise` is not `[n, n]` for one-hot labels `[n, classes]`.
  """
  checks.real("labels", labels)
  rows = jnp.shape(labels)[0] if jnp.ndim(labels) == 2 else -1
  if jnp.shape(pairwise) != (rows, rows):
    shapes = f"{list(jnp.shape(pairwise))} and {list(jnp.shape(labels))}"
    raise ValueError(f"expected one value per pair [n, n] and one-hot labels [n, classes], got {shapes}")
  checks.one_hot("labels", labels)
  there = labels.any(-1)
  both = there[:, None] & there[None]
  same = (labels @ labels.T) > 0.5
  return both & same & ~jnp.eye(rows, dtype=bool), both & ~same


def hinge(margin: float | str) -> Callable[[Array], Array]:
  """Returns the function `max(0, x + margin)`, or `log(1 + exp(x))` for the margin "soft".

  Raises:
    ValueError: if the margin is neither above 0 nor "soft".
  """
  if isinstance(margin, str) and margin == SOFT:
    return jax.nn.softplus
  try:
    checks.scalar("a margin", margin)
    margin = checks.positive("a margin", margin)
  except ValueError:
    raise ValueError(f"expected a margin above 0, or 'soft', got {margin!r}") from None
  return lambda x: jax.nn.relu(x + margin)


def _mean(values, weights):
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(wide(weights)), 1)
