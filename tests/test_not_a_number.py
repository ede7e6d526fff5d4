"""What comes of NaN is NaN: no loss, score or answer passes it over, and padding that holds NaN changes nothing."""

import jax
import numpy as np
import pytest

from metajax.compose import unit_rows
from metajax.learners import siamese, triplet
from metajax.losses import (
  accuracy,
  batch_cross_entropy,
  batch_hard,
  batch_semi_hard,
  binary_cross_entropy,
  cross_entropy,
  info_nce,
  masked_reconstruction,
  mse,
  nt_xent,
  siglip,
  supervised_contrastive,
)
from metajax.predictors import (
  attention_logits,
  centroid_cosines,
  centroid_logits,
  class_means,
  nearest_centroid,
  nearest_logits,
  normalized,
  ridge_logits,
)
from metajax.types import Examples, Network, Pair

random = np.random.default_rng(0)
ROWS, WAYS, D = 6, 3, 5
X, Y = random.normal(size=(2, ROWS, D)).astype(np.float32)
CLASSES = np.array([0, 0, 1, 1, 2, 2])
LABELS = np.eye(WAYS, dtype=np.float32)[CLASSES]
HOWS = ("dense", "tiled")


def over(names, fast):
  """Names to go over, of which those whose like is among the fast ones are slow."""
  marked = [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]
  return pytest.mark.parametrize("name", marked)


def spoilt(array, row=2):
  """An array with one NaN, in a row."""
  array = np.array(array)
  array[row, ..., 1] = np.nan
  return array


def test_a_row_with_nan_stays_nan_and_others_stay_of_length_1():
  rows = np.concatenate([spoilt(X), np.zeros((1, D)), np.full((1, D), np.inf)]).astype(np.float32)
  unit = np.asarray(jax.jit(unit_rows)(rows))
  np.testing.assert_array_equal(np.isnan(unit).all(-1), [False, False, True, False, False, False, False, True])
  np.testing.assert_array_equal(np.isnan(unit).any(-1), np.isnan(unit).all(-1))
  np.testing.assert_allclose(np.linalg.norm(unit[[0, 1, 3, 4, 5, 6]], axis=-1), [1, 1, 1, 1, 1, 0], rtol=1e-6)


def test_a_network_that_is_all_nan_scores_nan_and_not_at_chance():
  embed = normalized(lambda params, state, inputs: inputs * params)
  predict = nearest_centroid(embed)

  @jax.jit
  def score(params):
    logits = predict(params, {}, Examples(X, LABELS), Y)
    return logits, accuracy(logits, LABELS)

  assert all(np.isnan(found).all() for found in score(np.float32(np.nan)))


CONTRASTIVE = {
  "info_nce": lambda x, weights, how: info_nce(x, Y, 7.0, weights=weights, implementation=how),
  "info_nce, second": lambda x, weights, how: info_nce(Y, x, 7.0, weights=weights, implementation=how),
  "siglip": lambda x, weights, how: siglip(x, Y, 7.0, -2.0, weights=weights, implementation=how),
  "nt_xent": lambda x, weights, how: nt_xent(x, 0.2, weights=weights, implementation=how),
  "nt_xent, decoupled": lambda x, weights, how: nt_xent(x, 0.2, decoupled=True, weights=weights, implementation=how),
  "supervised": lambda x, weights, how: supervised_contrastive(x, CLASSES, 0.2, weights=weights, implementation=how),
}


@over(CONTRASTIVE, fast=("info_nce", "nt_xent"))
def test_a_contrastive_loss_of_a_row_with_nan_is_nan_and_of_a_padded_one_is_not(name):
  """In both ways to compute it; with padding value and gradient are those without the row's contents."""
  loss = lambda how: jax.value_and_grad(lambda x, weights: CONTRASTIVE[name](x, weights, how))
  both = jax.jit(lambda x, weights: [loss(how)(x, weights) for how in HOWS])
  ones, padded = np.ones(ROWS, np.float32), np.float32(np.arange(ROWS) < 4)
  for value, _ in both(spoilt(X), ones):
    assert np.isnan(value)
  clean = np.where(padded[:, None] > 0, X, 0)
  for (value, slope), (expected, expected_slope) in zip(both(spoilt(X, 5), padded), both(clean, padded), strict=True):
    assert value == expected and np.isfinite(value)
    np.testing.assert_array_equal(slope, expected_slope)
    np.testing.assert_array_equal(slope[5], 0)
  below = np.where(np.arange(ROWS) == 3, -1, ones)  # which is refused where it is known
  assert all(np.isnan(value) for value, _ in both(X, below))


BY_LABELS = {  # of something a row, labels, and what they are
  "cross_entropy": (cross_entropy, X[:, :WAYS], LABELS),
  "accuracy": (accuracy, X[:, :WAYS], LABELS),
  "mse": (mse, X[:, :WAYS], LABELS),
  "binary_cross_entropy": (lambda z, y: binary_cross_entropy(z[:, 1], y), X, LABELS[:, :2] + LABELS[:, 2:] * [0, 1]),
  "batch_cross_entropy": (batch_cross_entropy, X @ X.T, LABELS),
  "batch_hard": (batch_hard, np.abs(X @ X.T), LABELS),
  "batch_semi_hard": (batch_semi_hard, np.abs(X @ X.T), LABELS),
}


@over(BY_LABELS, fast=("cross_entropy", "accuracy", "batch_semi_hard"))
def test_a_labeled_row_with_nan_makes_nan_and_an_unlabeled_one_changes_neither_value_nor_gradient(name):
  loss, numbers, labels = BY_LABELS[name]
  run = jax.jit(jax.value_and_grad(loss))
  assert np.isnan(run(spoilt(numbers), labels)[0])
  padded = np.where(np.arange(ROWS)[:, None] < 4, labels, 0)
  value, slope = run(spoilt(numbers, 5), padded)
  expected, _ = run(np.where(np.isnan(spoilt(numbers, 5)), 0, numbers), padded)
  assert value == expected and np.isfinite(value) and np.isfinite(slope).all()


def test_a_negative_of_a_class_of_its_own_that_is_nan_is_not_passed_over():
  """All others are farther than the positive, so that a semi-hard negative is found without it."""
  distances = np.array([[0, 1, 2, np.nan], [1, 0, 2, 3], [2, 2, 0, 4], [np.nan, 3, 4, 0]], np.float32)
  assert np.isnan(jax.jit(batch_semi_hard)(distances, np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]))


def test_a_hidden_patch_with_nan_makes_nan_and_one_that_was_seen_does_not():
  patches, masked = random.normal(size=(2, 3, 4)).astype(np.float32), np.array([[1.0, 0, 1], [0, 1, 1]], np.float32)
  run = jax.jit(jax.value_and_grad(lambda found, seen: masked_reconstruction(found, patches, seen)))
  found = np.array(patches + 1)
  found[0, 1, 0] = np.nan
  value, slope = run(found, masked)
  assert value == 1 and np.isfinite(slope).all()
  assert np.isnan(run(found, 1 - masked)[0])


PREDICTORS = {
  "ridge": lambda x, labels, asked: ridge_logits(x, labels, asked, 1.0),
  "centroid": centroid_logits,
  "cosine": centroid_cosines,
  "nearest": nearest_logits,
  "attention": attention_logits,
}


@over(PREDICTORS, fast=("ridge", "nearest"))
def test_logits_that_depend_on_nan_are_nan_and_those_that_do_not_are_not(name):
  predict = jax.jit(PREDICTORS[name])
  of_query = predict(X, LABELS, spoilt(Y))
  np.testing.assert_array_equal(np.isnan(of_query), np.isnan(spoilt(Y)).any(-1, keepdims=True) * np.ones(WAYS, bool))
  assert np.isnan(predict(spoilt(X), LABELS, Y)[:, 1]).all()
  padded = np.where(np.arange(ROWS)[:, None] < 5, LABELS, 0)
  loss = lambda x: cross_entropy(PREDICTORS[name](x, padded, Y), LABELS)
  value, slope = jax.jit(jax.value_and_grad(loss))(spoilt(X, 5))
  assert np.isfinite(value) and np.isfinite(slope).all()
  np.testing.assert_array_equal(slope[5], 0)


def test_padding_that_is_nan_is_in_no_mean():
  padded = np.where(np.arange(ROWS)[:, None] < 5, LABELS, 0)
  clean = np.where(padded.any(-1)[:, None], X, 0)
  np.testing.assert_array_equal(class_means(spoilt(X, 5), padded), class_means(clean, padded))


@pytest.mark.parametrize("batch", ["pairs", pytest.param("of classes", marks=pytest.mark.slow)])
def test_the_accuracy_of_compared_embeddings_that_are_nan_is_nan(batch):
  same = np.eye(2, dtype=np.float32)[[1, 0, 1]]
  identity = Network(lambda key, x: ({}, {}), lambda params, state, x, *, train, key=None: (x, state))
  rows = Examples(spoilt(X), LABELS)
  cases = {
    "pairs": [(siamese(identity), Examples(Pair(spoilt(X)[:3], Y[:3]), same)),
              (triplet(identity, negatives="given"), {"anchor": spoilt(X)[:3], "positive": X[3:], "negative": Y[:3]})],
    "of classes": [(siamese(identity, pairs="batch"), rows), (triplet(identity), rows)],
  }  # fmt: skip
  for learner, given in cases[batch]:
    params, state = learner.init(jax.random.key(0), given)
    loss, (_, metrics) = jax.jit(learner.loss)(params, state, given, jax.random.key(0))
    assert np.isnan(loss) and np.isnan(metrics["accuracy"])
