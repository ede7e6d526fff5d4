"""Losses and scores of a classifier: logits and one-hot labels in, a scalar out.

A row of labels that is all zero is padding and weighs nothing, so batches of any length keep one shape.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import Array, Scalar


def cross_entropy(logits: Array, labels: Array) -> Scalar:
  """The mean over rows of `-sum_k labels_k log softmax(logits)_k`, in nats.

  Args:
    logits: `[n, ways]`.
    labels: one-hot `[n, ways]`; all-zero rows weigh nothing. Without any other row the loss is 0.

  Raises:
    ValueError: if the shapes differ.
  """
  check_fits(logits, labels)
  log_probabilities = jax.nn.log_softmax(logits)
  return -_mean(jnp.sum(labels * log_probabilities, axis=-1), labels)


def squared_error_of_scores(scores: Array, labels: Array) -> Scalar:
  """The mean over rows and ways of `(scores - labels)^2` (arXiv:1711.06025).

  Args:
    scores: `[n, ways]`, 0 to 1.
    labels: one-hot `[n, ways]`; all-zero rows weigh nothing. Without any other row the loss is 0.

  Raises:
    ValueError: if the shapes differ.
  """
  check_fits(scores, labels)
  return _mean(jnp.square(scores - labels).mean(-1) * row_weights(labels), labels)


def accuracy(logits: Array, labels: Array) -> Scalar:
  """The share, 0 to 1, of rows whose largest logit is at their label, all-zero rows left out.

  Args:
    logits: `[n, ways]`.
    labels: one-hot `[n, ways]`.

  Raises:
    ValueError: if the shapes differ.
  """
  check_fits(logits, labels)
  right = jnp.argmax(logits, -1) == jnp.argmax(labels, -1)
  return _mean(right * row_weights(labels), labels)


def row_weights(labels: Array) -> Array:
  """1 for a labelled row, 0 for padding: `[n, ways] -> [n]`."""
  return jnp.sum(labels, axis=-1)


def check_fits(logits: Array, labels: Array):
  """Says which number of ways a network gave and which the labels have, when they differ.

  Raises:
    ValueError: if the shapes differ or are not `[n, ways]`.
  """
  given, expected = jnp.shape(logits), jnp.shape(labels)
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
  if isinstance(labels, jax.core.Tracer):
    return
  if np.ndim(labels) < 2:
    given = f"an array of shape {list(np.shape(labels))}"
    raise ValueError(f"expected one-hot labels [n, ways], as jax.nn.one_hot(labels, ways) makes them, got {given}")
  rows = np.asarray(labels).reshape(-1, np.shape(labels)[-1])
  ones, zeros = (rows == 1).sum(-1), (rows == 0).sum(-1)
  wrong = np.flatnonzero((ones > 1) | (ones + zeros < rows.shape[-1]))
  if wrong.size:
    row = rows[wrong[0]].tolist()
    raise ValueError(f"expected one-hot labels (a single 1 in each row, or all zeros for padding), got the row {row}")


def _mean(values, labels):
  weight = jnp.sum(labels)
  return jnp.sum(values) / jnp.where(weight > 0, weight, 1)
