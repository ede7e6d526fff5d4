"""Losses on pairs and triplets of embeddings: arrays in, a scalar out.

A row of labels that is all zero is padding and weighs nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.tree import wide
from metajax.types import Array, Scalar

SOFT = "soft"  # in place of a margin


def binary_cross_entropy(logits: Array, labels: Array) -> Scalar:
  """The mean over pairs of `-y log sigmoid(z) - (1 - y) log(1 - sigmoid(z))`, in nats.

  Args:
    logits: `z`, `[n]`: of a pair being of one class.
    labels: one-hot `[n, 2]`: different, same; all-zero rows weigh nothing, whatever their logits. Without any other row
      the loss is 0.

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
  """The binary cross-entropy of all pairs of a labeled batch, half of it of pairs of one class, half of two, in nats:

      1/2 mean_{i, j of one class} -log sigmoid(z_ij) + 1/2 mean_{i, j of two} -log(1 - sigmoid(z_ij)),   i != j

  Args:
    logits: `z`, `[n, n]`: of two rows being of one class.
    labels: one-hot `[n, classes]`; all-zero rows weigh nothing. A half without pairs is 0.

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
    margin: above 0; "soft" for `log(1 + exp(|a - p|^2 - |a - n|^2))` (arXiv:1703.07737).

  Raises:
    ValueError: if shapes differ, there are no rows or they are not floating, or the margin is not above 0.
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
  """The mean over rows of the hinge of their farthest row of the same class and their nearest of another
  (arXiv:1703.07737):

      hinge(max_{p of the class} D_ap - min_{n of another} D_an)

  Args:
    distances: `D`, squared distances between all rows, `[n, n]`.
    labels: one-hot `[n, classes]`; all-zero rows weigh nothing, and neither do rows without another of their class or
      without one of another class. Without any that does the loss is 0.
    margin: as for `triplet_margin`.

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
  """The mean over all pairs `(a, p)` of one class of the hinge with their semi-hard negative (arXiv:1503.03832):

      hinge(D_ap - D_an),   n = the nearest row of another class that is farther than p; the farthest, if none is

  Args:
    distances, labels, margin: as for `batch_hard`; a pair weighs nothing where there is no row of another class.

  Raises:
    ValueError: as `batch_hard`.
  """
  checks.floating("distances", distances)
  same, other = relations(distances, labels)
  distances = wide(distances)

  def negatives_of(anchor):
    """For each positive of an anchor the index of its negative: numbers without a gradient, so nothing is kept."""
    row, other = anchor
    farthest = jnp.argmax(jnp.where(other, row, -jnp.inf))
    beyond = other & ~(row[None] <= row[:, None])  # a distance that is NaN is beyond all: it is not passed over
    return jnp.where(beyond.any(-1), jnp.argmin(jnp.where(beyond, row[None], jnp.inf), -1), farthest)

  # One anchor at a time: nothing of size n^3 is held.
  negatives = lax.map(negatives_of, (lax.stop_gradient(distances), other))
  valid = same & other.any(-1, keepdims=True)
  gap = jnp.where(valid, distances, 0) - jnp.where(valid, jnp.take_along_axis(distances, negatives, -1), 0)
  return _mean(hinge(margin)(gap), valid)


def relations(pairwise: Array, labels: Array) -> tuple[Array, Array]:
  """Which pairs of labeled rows are of one class (a row and itself is none), and which of two: bool `[n, n]` each.

  Raises:
    ValueError: if what is known of the pairs is not `[n, n]` for one-hot labels `[n, classes]`.
  """
  checks.real("labels", labels)
  rows = jnp.shape(labels)[0] if jnp.ndim(labels) == 2 else -1
  if jnp.shape(pairwise) != (rows, rows):
    shapes = f"{list(jnp.shape(pairwise))} and {list(jnp.shape(labels))}"
    raise ValueError(f"expected a value of each pair [n, n] and one-hot labels [n, classes], got {shapes}")
  checks.one_hot("labels", labels)
  there = labels.any(-1)
  both = there[:, None] & there[None]
  same = (labels @ labels.T) > 0.5
  return both & same & ~jnp.eye(rows, dtype=bool), both & ~same


def hinge(margin: float | str) -> Callable[[Array], Array]:
  """`max(0, x + margin)`, or `log(1 + exp(x))` for the margin "soft".

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
