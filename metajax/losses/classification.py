"""Losses and scores for classification and regression: outputs and labels in, a scalar out.

An all-zero row of labels is padding and has weight 0, so batches of any length keep one shape.
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
    labels: One-hot `[n, ways]`. All-zero rows have weight 0, whatever their logits; if all rows are zero the loss is 0.
      Soft labels, and one-hot labels times a weight, work too: a row's weight is its sum.

  Returns:
    A scalar of at least 32 bits; NaN if a row of positive weight has NaN logits.

  Raises:
    ValueError: if the shapes differ, logits are not floating, or labels are below 0 or sum to more than 1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.losses import cross_entropy
    >>> labels = jax.nn.one_hot(jnp.array([0, 2, -1]), 3)  # the last row is padding
    >>> round(float(cross_entropy(jnp.zeros([3, 3]), labels)), 4)  # ln 3
    1.0986
  """
  there = _labeled("logits", logits, labels)
  log_prob = jax.nn.log_softmax(jnp.where(there, wide(logits), 0))
  return -_mean(jnp.sum(labels * log_prob, axis=-1), labels)


def mse(scores: Array, labels: Array) -> Scalar:
  """The mean over rows and ways of `(scores - labels)^2` (arXiv:1711.06025).

  Args:
    scores: `[n, ways]`, 0 to 1.
    labels: One-hot `[n, ways]`; all-zero rows have weight 0. If all rows are zero the loss is 0.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: as for `cross_entropy`.
  """
  there = _labeled("scores", scores, labels)
  each = jnp.square(jnp.where(there, wide(scores), 0) - labels)
  return _mean(each.mean(-1) * row_weights(labels), labels)


def accuracy(logits: Array, labels: Array) -> Scalar:
  """The fraction, 0 to 1, of rows whose largest logit is at the label.

  Args:
    logits: `[n, ways]`.
    labels: One-hot `[n, ways]`; all-zero rows are ignored.

  Returns:
    A scalar; NaN if a labeled row holds a NaN logit.

  Raises:
    ValueError: as for `cross_entropy`.
  """
  there = _labeled("logits", logits, labels)
  right = jnp.argmax(logits, -1) == jnp.argmax(labels, -1)
  unknown = jnp.isnan(jnp.where(there, logits, 0)).any(-1)
  return _mean(right_if_known(right, unknown) * row_weights(labels), labels)


def right_if_known(right: Array, unknown: Array) -> Array:
  """Returns 1 for a right prediction, 0 for a wrong one, and NaN for one that depends on NaN."""
  return jnp.where(unknown, jnp.nan, right)


def row_weights(labels: Array) -> Array:
  """1 for a labeled row, 0 for padding: `[n, ways] -> [n]`.

  Raises:
    ValueError: if labels are below 0 or sum to more than 1.
  """
  checks.shares("labels", labels)
  return jnp.sum(labels, axis=-1)


def check_fits(logits: Array, labels: Array):
  """Checks that logits and labels have the same shape `[n, ways]`.

  Raises:
    ValueError: if the shapes differ (naming both numbers of ways) or are not `[n, ways]`, or the values are not real
      numbers.
  """
  checks.real("logits", logits)
  checks.real("labels", labels)
  given, expected = logits.shape, labels.shape
  if len(expected) != 2:
    raise ValueError(f"expected one-hot labels [n, ways], got an array of shape {list(expected)}")
  if given != expected:
    raise ValueError(f"expected logits {list(expected)} for labels of {expected[1]} ways, got {list(given)}")


def check_one_hot(labels: Array):
  """Checks every row of concrete labels; traced labels, whose values are not known yet, pass.

  Args:
    labels: `[..., n, ways]`.

  Raises:
    ValueError: if a row is neither one-hot nor all zero; the message quotes the first one.
  """
  checks.one_hot("labels", labels)


def _labeled(name, numbers, labels):
  """Checks outputs against labels; returns the mask of labeled rows, `[n, 1]`."""
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
    A scalar of at least 32 bits.

  Raises:
    ValueError: if the shapes differ (nothing is broadcast silently), the arrays are empty, or the values are not real
      numbers.
  """
  checks.real("outputs", outputs)
  checks.real("targets", targets)
  if jnp.shape(outputs) != jnp.shape(targets):
    raise ValueError(f"expected outputs {list(jnp.shape(targets))} like the targets, got {list(jnp.shape(outputs))}")
  if not jnp.size(outputs):
    raise ValueError(f"expected outputs of at least 1 value, got an array of shape {list(outputs.shape)}")
  return jnp.mean(jnp.square(wide(outputs) - wide(targets)))
