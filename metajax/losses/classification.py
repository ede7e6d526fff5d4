"""Losses and scores of classification and regression: outputs and labels in, a scalar out.

A row of labels that is all zero is padding and weighs nothing, so batches of any length keep one shape.
"""

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.tree import wide
from metajax.types import Array, Scalar


def cross_entropy(logits: Array, labels: Array) -> Scalar:
  """The mean over rows of `-sum_k labels_k log softmax(logits)_k`, in nats.

  Args:
    logits: `[n, ways]`.
    labels: one-hot `[n, ways]`; all-zero rows weigh nothing, whatever their logits. Without any other row the loss is
      0. Shares of a row are served too (soft labels, or one-hot ones times a weight), of which a row weighs its sum.

  Returns:
    A scalar in 32 bits at least; NaN where a row that weighs has NaN logits.

  Raises:
    ValueError: if the shapes differ, logits are not floating, or labels are below 0 or sum to more than 1.
  """
  there = _labeled("logits", logits, labels)
  log_prob = jax.nn.log_softmax(jnp.where(there, wide(logits), 0))
  return -_mean(jnp.sum(labels * log_prob, axis=-1), labels)


def mse(scores: Array, labels: Array) -> Scalar:
  """The mean over rows and ways of `(scores - labels)^2` (arXiv:1711.06025).

  Args:
    scores: `[n, ways]`, 0 to 1.
    labels: one-hot `[n, ways]`; all-zero rows weigh nothing. Without any other row the loss is 0.

  Raises:
    ValueError: as `cross_entropy`.
  """
  there = _labeled("scores", scores, labels)
  each = jnp.square(jnp.where(there, wide(scores), 0) - labels)
  return _mean(each.mean(-1) * row_weights(labels), labels)


def accuracy(logits: Array, labels: Array) -> Scalar:
  """The share, 0 to 1, of rows whose largest logit is at their label, all-zero rows left out.

  Args:
    logits: `[n, ways]`.
    labels: one-hot `[n, ways]`.

  Returns:
    A scalar; NaN where a row that counts holds NaN, of which none is the largest.

  Raises:
    ValueError: as `cross_entropy`.
  """
  there = _labeled("logits", logits, labels)
  right = jnp.argmax(logits, -1) == jnp.argmax(labels, -1)
  unknown = jnp.isnan(jnp.where(there, logits, 0)).any(-1)
  return _mean(right_if_known(right, unknown) * row_weights(labels), labels)


def right_if_known(right: Array, unknown: Array) -> Array:
  """1 where an answer is right and 0 where it is wrong; NaN where it comes of NaN, which compares as wrong."""
  return jnp.where(unknown, jnp.nan, right)


def row_weights(labels: Array) -> Array:
  """1 for a labeled row, 0 for padding: `[n, ways] -> [n]`.

  Raises:
    ValueError: if labels are no rows of shares, as for `cross_entropy`.
  """
  checks.shares("labels", labels)
  return jnp.sum(labels, axis=-1)


def check_fits(logits: Array, labels: Array):
  """Says which number of ways a network gave and which the labels have, when they differ.

  Raises:
    ValueError: if the shapes differ or are not `[n, ways]`, or they are no arrays of real numbers.
  """
  checks.real("logits", logits)
  checks.real("labels", labels)
  given, expected = logits.shape, labels.shape
  if len(expected) != 2:
    raise ValueError(f"expected one-hot labels [n, ways], got an array of shape {list(expected)}")
  if given != expected:
    raise ValueError(f"expected logits {list(expected)} for labels of {expected[1]} ways, got {list(given)}")


def check_one_hot(labels: Array):
  """Looks at every row of concrete labels; traced labels, whose values are not there yet, pass.

  Args:
    labels: `[..., n, ways]`.

  Raises:
    ValueError: quoting the first row that is neither one-hot nor all zero.
  """
  checks.one_hot("labels", labels)


def _labeled(name, numbers, labels):
  """Which rows have a label, `[n, 1]`, of numbers that fit the labels."""
  checks.floating(name, numbers)
  check_fits(numbers, labels)
  checks.shares("labels", labels)
  return jnp.any(labels != 0, -1, keepdims=True)


def _mean(values, labels):
  weight = jnp.sum(wide(labels))
  return jnp.sum(wide(values)) / jnp.where(weight == 0, 1, weight)


def squared_error(outputs: Array, targets: Array) -> Scalar:
  """The mean over rows and outputs of `(outputs - targets)^2`.

  Args:
    outputs: `[n, outputs]`.
    targets: `[n, outputs]`.

  Returns:
    A scalar in 32 bits at least.

  Raises:
    ValueError: if the shapes differ, so that nothing is broadcast in silence, there are no values, or they are not real
      numbers.
  """
  checks.real("outputs", outputs)
  checks.real("targets", targets)
  if jnp.shape(outputs) != jnp.shape(targets):
    raise ValueError(f"expected outputs {list(jnp.shape(targets))} like the targets, got {list(jnp.shape(outputs))}")
  if not jnp.size(outputs):
    raise ValueError(f"expected outputs of at least 1 value, got an array of shape {list(outputs.shape)}")
  return jnp.mean(jnp.square(wide(outputs) - wide(targets)))
