"""Losses and scores against slow NumPy references: padding weighs nothing, and no logit is too large."""

import jax
import numpy as np
import pytest

from metajax.losses import accuracy, check_one_hot, cross_entropy, squared_error

random = np.random.default_rng(0)
LOGITS = random.normal(size=(9, 4)).astype(np.float32) * 3
CLASSES = random.integers(4, size=9)
LABELS = np.eye(4, dtype=np.float32)[CLASSES]
PADDED = np.where(np.isin(np.arange(9), [0, 4, 8])[:, None], 0, LABELS)


def reference_cross_entropy(logits, labels):
  found = []
  for row, label in zip(np.float64(logits), labels, strict=True):
    if label.any():
      found.append(np.log(np.exp(row).sum()) - row[label.argmax()])
  return np.mean(found)


def reference_accuracy(logits, labels):
  return np.mean([row.argmax() == label.argmax() for row, label in zip(logits, labels, strict=True) if label.any()])


both = jax.jit(lambda logits, labels: (cross_entropy(logits, labels), accuracy(logits, labels)))
gradient_of_loss = jax.jit(jax.value_and_grad(cross_entropy))


@pytest.mark.parametrize("labels", [LABELS, PADDED], ids=["all rows", "padded rows"])
def test_cross_entropy_and_accuracy_are_the_means_over_labeled_rows(labels):
  loss, score = both(LOGITS, labels)
  np.testing.assert_allclose(loss, reference_cross_entropy(LOGITS, labels), rtol=1e-6)
  np.testing.assert_allclose(score, reference_accuracy(LOGITS, labels), rtol=1e-6)


def test_the_logits_of_a_padded_row_do_not_matter():
  other = np.where(PADDED.any(-1, keepdims=True), LOGITS, 77.0)
  assert both(LOGITS, PADDED) == both(other, PADDED)


def test_without_a_labeled_row_loss_accuracy_and_gradient_are_zero():
  nothing = np.zeros_like(LABELS)
  assert both(LOGITS, nothing) == (0, 0)
  np.testing.assert_array_equal(gradient_of_loss(LOGITS, nothing)[1], 0)


def test_gradient_of_cross_entropy_is_softmax_minus_label_over_the_number_of_rows():
  powers = np.exp(LOGITS)
  expected = (powers / powers.sum(-1, keepdims=True) - LABELS) * PADDED.any(-1, keepdims=True) / 6
  np.testing.assert_allclose(gradient_of_loss(LOGITS, PADDED)[1], expected, atol=1e-6)


@pytest.mark.parametrize(
  ("logits", "expected"),
  [
    ([[1e4, -1e4, 0.0]], [[0, 0, 0]]),
    ([[-1e4, 1e4, 0.0]], [[-1, 1, 0]]),
    ([[1e30, 1e30, -1e30]], [[-0.5, 0.5, 0]]),
    ([[0.0, 0.0, -1e9]], [[-0.5, 0.5, 0]]),  # a way without support
    ([[-1e9, -1e9, -1e9]], [[-2 / 3, 1 / 3, 1 / 3]]),
  ],
)
def test_gradient_is_right_at_extreme_logits(logits, expected):
  labels = np.array([[1.0, 0, 0]], np.float32)
  value, gradient = gradient_of_loss(np.float32(logits), labels)
  assert np.isfinite(value)
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_squared_error_is_the_mean_over_rows_and_outputs():
  outputs, targets = random.normal(size=(2, 5, 3))
  expected = np.mean([(o - t) ** 2 for o, t in zip(outputs.ravel(), targets.ravel(), strict=True)])
  np.testing.assert_allclose(jax.jit(squared_error)(outputs, targets), expected, rtol=1e-6)


@pytest.mark.parametrize("score", [cross_entropy, accuracy])
@pytest.mark.parametrize(
  ("logits", "labels", "said"),
  [
    ((6, 3), (6, 5), r"logits \[6, 5\] for labels of 5 ways, got \[6, 3\]"),
    ((6, 1), (6, 5), r"got \[6, 1\]"),
    ((1, 5), (6, 5), r"got \[1, 5\]"),
    ((6, 5), (6,), r"one-hot labels \[n, ways\], got an array of shape \[6\]"),
    ((2, 6, 5), (2, 6, 5), r"one-hot labels \[n, ways\], got an array of shape \[2, 6, 5\]"),
  ],
)
def test_logits_of_another_shape_than_the_labels_are_refused(score, logits, labels, said):
  with pytest.raises(ValueError, match=said):
    score(np.zeros(logits), np.zeros(labels))


def test_outputs_that_would_be_broadcast_to_the_targets_are_refused():
  with pytest.raises(ValueError, match=r"expected outputs \[5, 1\] like the targets, got \[5\]"):
    squared_error(np.zeros(5), np.zeros((5, 1)))


@pytest.mark.parametrize("row", [[0.5, 0.5, 0], [1, 1, 0], [2, 0, 0], [-1, 1, 0], [np.nan, 0, 0], [0.9, 0, 0]])
def test_a_row_that_is_not_one_hot_is_quoted(row):
  labels = np.tile(np.eye(3), (2, 1, 1))
  labels[1, 2] = row
  with pytest.raises(ValueError, match=r"expected one-hot labels .*, got the row \[" + str(float(row[0]))):
    check_one_hot(labels)


def test_labels_without_ways_are_refused():
  with pytest.raises(
    ValueError,
    match=r"expected one-hot labels \[n, ways\], as jax.nn.one_hot.* makes them, got an array of shape \[4\]",
  ):
    check_one_hot(np.arange(4))


def test_one_hot_padded_and_traced_labels_pass():
  check_one_hot(PADDED)
  check_one_hot(np.eye(3, dtype=int))
  jax.jit(check_one_hot)(np.full((2, 2), 0.5))
