"""Arrays that make no sense are refused by every loss and predictor, with what was given, before any computing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import losses, predictors
from metajax.compose import unit_rows
from metajax.losses import (
  accuracy,
  batch_cross_entropy,
  batch_hard,
  batch_semi_hard,
  binary_cross_entropy,
  cross_entropy,
  info_nce,
  linear_cross_entropy,
  linear_log_prob,
  logit_scale,
  masked_reconstruction,
  mse,
  normalized_patches,
  nt_xent,
  patch_statistics,
  row_weights,
  siglip,
  squared_error,
  supervised_contrastive,
  triplet_margin,
)
from metajax.predictors import (
  attention,
  attention_logits,
  centroid_cosines,
  centroid_logits,
  class_means,
  cosines,
  laplacian_logits,
  largest_by_way,
  lp_plus_plus_logits,
  nearest_logits,
  pt_map_logits,
  rectified_logits,
  ridge_logits,
  squared_distances,
  tim_logits,
  tip_adapter_logits,
  without_empty_ways,
)

random = np.random.default_rng(0)
ROWS, WAYS, D = 4, 3, 5
X = random.normal(size=(ROWS, D)).astype(np.float32)
LABELS = np.eye(WAYS, dtype=np.float32)[[0, 1, 2, 0]]
LOGITS, PAIRS = X[:, :WAYS], X @ X.T
ONES = np.ones(ROWS, np.float32)
PATCHES = X[None]


def changed(array, value):
  array = np.array(array)
  array[1, 1] = value
  return array


OF_LABELS = {  # of anything that is given with one-hot labels of a row each
  "cross_entropy": lambda labels: cross_entropy(LOGITS, labels),
  "accuracy": lambda labels: accuracy(LOGITS, labels),
  "mse": lambda labels: mse(LOGITS, labels),
  "row_weights": row_weights,
  "binary_cross_entropy": lambda labels: binary_cross_entropy(X[:, 0], labels[..., :2] if labels.ndim > 1 else labels),
  "batch_cross_entropy": lambda labels: batch_cross_entropy(PAIRS, labels),
  "batch_hard": lambda labels: batch_hard(PAIRS, labels),
  "batch_semi_hard": lambda labels: batch_semi_hard(PAIRS, labels),
  "supervised_contrastive": lambda labels: supervised_contrastive(X, labels, 0.1),
  "ridge_logits": lambda labels: ridge_logits(X, labels, X, 1.0),
  "centroid_logits": lambda labels: centroid_logits(X, labels, X),
  "centroid_cosines": lambda labels: centroid_cosines(X, labels, X),
  "nearest_logits": lambda labels: nearest_logits(X, labels, X),
  "rectified_logits": lambda labels: rectified_logits(X, labels, X),
  "laplacian_logits": lambda labels: laplacian_logits(X, labels, X),
  "tim_logits": lambda labels: tim_logits(X, labels, X),
  "tip_adapter_logits": lambda labels: tip_adapter_logits(X, labels, X, X[:3]),
  "lp_plus_plus_logits": lambda labels: lp_plus_plus_logits(X, labels, X, X[:3]),
  "pt_map_logits": lambda labels: pt_map_logits(X, labels, X),
  "attention_logits": lambda labels: attention_logits(X, labels, X),
  "attention": lambda labels: attention(X[:, :ROWS], labels),
  "class_means": lambda labels: class_means(X, labels),
  "largest_by_way": lambda labels: largest_by_way(PAIRS, labels),
  "without_empty_ways": lambda labels: without_empty_ways(LOGITS, labels),
}
WRONG_LABELS = {
  "a label of 2": (changed(LABELS, 2), r"labels.*got the row \[0.0, 2.0"),
  "a label of -1": (changed(LABELS, -1), r"labels.*got the row \[0.0, -1.0"),
  "NaN": (changed(LABELS, np.nan), r"labels.*got the row \[0.0, nan"),
  "integers [n, 1]": (np.array([[0], [1], [1], [0]]), r"\[4, 1\]"),
  "no ways": (np.zeros((ROWS, 0), np.float32), r"\[4, 0\]"),
}


@pytest.mark.parametrize("name", OF_LABELS)
def test_labels_that_are_not_one_hot_are_refused(name):
  for wrong, said in WRONG_LABELS.values():
    with pytest.raises(ValueError, match=said):
      OF_LABELS[name](wrong)
  if name not in ("supervised_contrastive", "row_weights"):  # of which one takes integers, and the other any rows
    with pytest.raises(ValueError, match=r"\[4\]"):
      OF_LABELS[name](np.array([0, 1, 2, 0]))


FLOATS = {  # a function of one array, which is to be floating, and an array that is
  "cross_entropy": (lambda x: cross_entropy(x, LABELS), LOGITS),
  "accuracy": (lambda x: accuracy(x, LABELS), LOGITS),
  "mse": (lambda x: mse(x, LABELS), LOGITS),
  "binary_cross_entropy": (lambda x: binary_cross_entropy(x, LABELS[:, :2]), X[:, 0]),
  "batch_cross_entropy": (lambda x: batch_cross_entropy(x, LABELS), PAIRS),
  "batch_hard": (lambda x: batch_hard(x, LABELS), PAIRS),
  "batch_semi_hard": (lambda x: batch_semi_hard(x, LABELS), PAIRS),
  "triplet_margin": (lambda x: triplet_margin(X, x, X), X),
  "info_nce": (lambda x: info_nce(X, x, 1.0), X),
  "siglip": (lambda x: siglip(x, X, 1.0, 0.0), X),
  "nt_xent": (lambda x: nt_xent(x, 1.0), X),
  "supervised_contrastive": (lambda x: supervised_contrastive(x, LABELS, 1.0), X),
  "masked_reconstruction": (lambda x: masked_reconstruction(x, PATCHES, ONES[None]), PATCHES),
  "normalized_patches": (normalized_patches, PATCHES),
  "patch_statistics": (patch_statistics, PATCHES),
  "linear_cross_entropy": (lambda x: linear_cross_entropy(x, X, np.arange(4)), X),
  "linear_log_prob": (lambda x: linear_log_prob(X, x, np.arange(4)), X),
  "unit_rows": (unit_rows, X),
  "ridge_logits": (lambda x: ridge_logits(X, LABELS, x, 1.0), X),
  "centroid_logits": (lambda x: centroid_logits(x, LABELS, X), X),
  "centroid_cosines": (lambda x: centroid_cosines(X, LABELS, x), X),
  "nearest_logits": (lambda x: nearest_logits(x, LABELS, X), X),
  "rectified_logits": (lambda x: rectified_logits(X, LABELS, x), X),
  "laplacian_logits": (lambda x: laplacian_logits(x, LABELS, X), X),
  "tim_logits": (lambda x: tim_logits(x, LABELS, X), X),
  "tip_adapter_logits": (lambda x: tip_adapter_logits(X, LABELS, X, x), X[:3]),
  "lp_plus_plus_logits": (lambda x: lp_plus_plus_logits(X, LABELS, X, x), X[:3]),
  "pt_map_logits": (lambda x: pt_map_logits(X, LABELS, x), X),
  "attention_logits": (lambda x: attention_logits(X, LABELS, x), X),
  "attention": (lambda x: attention(x, LABELS), PAIRS),
  "class_means": (lambda x: class_means(x, LABELS), X),
  "cosines": (lambda x: cosines(X, x), X),
  "squared_distances": (lambda x: squared_distances(x, X), X),
  "largest_by_way": (lambda x: largest_by_way(x, LABELS), PAIRS),
  "without_empty_ways": (lambda x: without_empty_ways(x, LABELS), LOGITS),
}
OTHERS = {"check_fits", "check_one_hot", "logit_scale", "row_weights", "squared_error"}  # of shapes, scalars, reals
ANY_ROWS = {"unit_rows", "normalized_patches", "patch_statistics", "class_means", "attention", "without_empty_ways"}
ANY_WIDTH = {"nt_xent", "supervised_contrastive"}


def test_the_tables_hold_every_public_function_of_arrays():
  factories = {"adapted_head", "fine_tuned", "perceptron_head", "nearest_centroid", "nearest_neighbor", "normalized"}
  factories |= {"centered", "bd_cspn", "laplacian_shot", "fine_tuned_prototypes", "tim", "pt_map"}
  factories |= {"zero_shot", "tip_adapter", "tip_adapter_f", "lp_plus_plus", "clip_adapter", "coop", "leave_one_out"}
  factories |= {"class_texts", "with_context"}  # of examples, and of tokens
  named = {*losses.__all__, *predictors.__all__} - factories - {"ridge", "EMPTY_WAY"} - OTHERS
  assert named == set(FLOATS) - {"unit_rows"}


@pytest.mark.parametrize("name", FLOATS)
def test_what_is_not_a_floating_array_of_the_shape_is_refused(name):
  call, right = FLOATS[name]
  for wrong in (right.astype(int), right > 0, right + 0j, right.tolist(), None):
    with pytest.raises(ValueError, match=r"expected .*got"):
      call(wrong)
  shapes = [] if name in ANY_ROWS else [right[0], right[None, None]] + [right[..., :1]] * (name not in ANY_WIDTH)
  for wrong in shapes:
    with pytest.raises(ValueError, match=r"expected .*got"):
      call(wrong)


@pytest.mark.parametrize(
  ("call", "said"),
  [
    (lambda: centroid_logits(X, LABELS, X[:, :1]), r"queries to be floating \[n, 5\], got float32 \[4, 1\]"),
    (lambda: centroid_logits(X[:3], LABELS, X), r"support to be floating \[4, d\], got float32 \[3, 5\]"),
    (lambda: ridge_logits(X, LABELS, X, 0.0), "l2 to be above 0, got 0.0"),
    (lambda: ridge_logits(X, LABELS, X, np.inf), "l2 to be above 0, got inf"),
    (lambda: ridge_logits(X, LABELS, X, ONES), r"l2 to be a number, got float32 \[4\]"),
    (lambda: attention_logits(X, LABELS, X, -1.0), "a scale to be above 0, got -1.0"),
    (lambda: unit_rows(X[:, :0]), r"at least 1 value a row, got an array of shape \[4, 0\]"),
    (lambda: nt_xent(X, 0.0), "temperature to be above 0, got 0.0"),
    (lambda: nt_xent(X, -0.1), "temperature to be above 0, got -0.1"),
    (lambda: nt_xent(X, ONES), r"temperature to be a number, got float32 \[4\]"),
    (lambda: nt_xent(X, 1.0, decoupled="yes"), "decoupled to be True or False, got 'yes'"),
    (lambda: nt_xent(X[:0], 1.0), r"at least 1 row .*\[0, 5\]"),
    (lambda: supervised_contrastive(X, LABELS, float("nan")), "temperature to be above 0, got nan"),
    (lambda: supervised_contrastive(X, np.array([0, 0, 1, -2]), 1.0), r"labels of at least -1, got -2 at \[3\]"),
    (lambda: supervised_contrastive(X, [0, 0, 1, 1], 1.0), "labels to be real numbers .*got a list"),
    (lambda: info_nce(X, X, -1.0), "scale to be above 0, got -1.0"),
    (lambda: info_nce(X, X, ONES), r"scale to be a number, got float32 \[4\]"),
    (lambda: info_nce(X, X, 1.0, weights=-ONES), r"weights finite and of at least 0, got -1.0 at \[0\]"),
    (lambda: info_nce(X, X, 1.0, weights=ONES * np.nan), r"weights finite and of at least 0, got nan at \[0\]"),
    (lambda: siglip(X, X, 1.0, ONES), r"bias to be a number, got float32 \[4\]"),
    (lambda: logit_scale(ONES), r"log_scale to be a number, got float32 \[4\]"),
    (lambda: triplet_margin(X, X, X, -1.0), "a margin above 0, or 'soft', got -1.0"),
    (lambda: triplet_margin(X, X, X, np.inf), "a margin above 0, or 'soft', got inf"),
    (lambda: triplet_margin(X[:0], X[:0], X[:0]), r"at least 1 triplet, got arrays of shape \[0, 5\]"),
    (lambda: squared_error(X[:0], X[:0]), r"at least 1 value, got an array of shape \[0, 5\]"),
    (lambda: squared_error(X + 0j, X), r"outputs to be real numbers \[...\], got complex64 \[4, 5\]"),
    (lambda: squared_error([1.0], [2.0]), "outputs to be real numbers .*got a list"),
    (lambda: masked_reconstruction(PATCHES, PATCHES, -ONES[None]), r"masked finite and of at least 0, got -1.0"),
    (lambda: normalized_patches(X[:, :1]), r"at least 2 pixels, got an array of shape \[4, 1\]"),
    (lambda: normalized_patches(X, -1.0), "epsilon to be above 0, got -1.0"),
  ],
)
def test_numbers_and_shapes_that_make_no_sense_are_refused(call, said):
  with pytest.raises(ValueError, match=said):
    call()


def test_a_temperature_or_a_scale_that_is_not_above_0_makes_nan_while_tracing():
  run = jax.jit(
    lambda t: [nt_xent(X, t), supervised_contrastive(X, LABELS, t), info_nce(X, X, t), siglip(X, X, t, 0.0)]
  )
  for value in (0.0, -1.0):
    assert np.isnan(run(value)).all()
  assert np.isfinite(run(1.0)).all()


def test_soft_labels_and_rows_times_a_weight_are_what_the_formula_says():
  soft = np.array([[0.7, 0.2, 0.1], [0.5, 0, 0], [0, 0, 0], [0, 0, 1]], np.float32)
  logs = np.log(np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True))
  np.testing.assert_allclose(cross_entropy(LOGITS, soft), -(soft * logs).sum() / soft.sum(), rtol=1e-5)


def test_integers_with_minus_1_are_one_hot_labels_with_a_row_of_zeros():
  padded = np.where(np.arange(ROWS)[:, None] < 3, LABELS, 0)
  run = jax.jit(lambda labels: supervised_contrastive(X, labels, 0.1))
  np.testing.assert_allclose(run(np.array([0, 1, 0, -1])), run(padded[[0, 1, 0, 3]]), rtol=1e-6)
  assert np.isnan(run(np.array([0, 0, 1, -2])))


def test_a_way_without_support_is_never_chosen_however_far_the_others_are():
  """Distances of 1e12 are beyond the logit of an empty way, -1e9."""
  support, labels = 1e6 * np.eye(4, 3, dtype=np.float32), np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
  for predict in (centroid_logits, nearest_logits):
    logits = np.asarray(jax.jit(predict)(support, labels, -support))
    assert (logits[:, 3:] < logits[:, :3]).all() and np.isfinite(logits).all()
    assert len(np.unique(logits[0, :3])) > 1
  near = jax.jit(centroid_logits)(X[:, :3], labels, X[:, :3])
  np.testing.assert_array_equal(near[:, 3], jnp.float32(-1e9))
