"""Scorers give no number of what is not finite or does not fit, whatever function the features came through."""

import itertools
import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from metajax import Episode, Examples, Learner
from metajax.evaluate import (
  Score,
  adaptation_curve,
  bigram,
  dataset_log_prob,
  embed_dataset,
  few_shot_accuracy,
  few_shot_mse,
  independent_pixels,
  linear_probe,
  mean_and_ci,
  mean_over_seeds,
  nearest_neighbors,
  neighbor_classes,
  one_shot_error,
  paired_difference,
  ratio_with_interval,
  retrieval,
  zero_shot,
  zero_shot_classifier,
)
from metajax.evaluate.retrieval import rank, unit

random = np.random.default_rng(0)
LABELS = np.arange(12) % 3
CLASSES = random.normal(size=(3, 4)).astype(np.float32)
KNOWN = Examples(np.float32(CLASSES[LABELS] + 0.5 * random.normal(size=(12, 4))), LABELS)


NOTHING = Learner(None, None, None, lambda *given: 0 / 0)


def spoiled(array, *rows, value=np.nan):
  array = np.array(array)
  array[list(rows)] = value
  return array


def unreadable(part, *rows, value=np.nan):
  return part._replace(inputs=spoiled(part.inputs, *rows, value=value))


SEVERAL = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("value", SEVERAL)
@pytest.mark.parametrize(
  ("score", "said"),
  [
    (lambda bad: zero_shot(CLASSES, unreadable(KNOWN, *range(12), value=bad)), "examples to be finite, got 12 of 12"),
    (lambda bad: zero_shot(spoiled(CLASSES, 1, value=bad), KNOWN), "classes to be finite, got 1 of 3 rows .*: 1"),
    (lambda bad: retrieval(KNOWN.inputs, spoiled(KNOWN.inputs, 3, value=bad), np.arange(12)), "texts .* 1 of 12 .*: 3"),
    (lambda bad: rank(spoiled(np.eye(3), 2, value=bad), np.array([[0]] * 3)), "cosines to be finite, got 1 of 3"),
    (
      lambda bad: nearest_neighbors(unreadable(KNOWN, 4, value=bad), KNOWN, KNOWN),
      "train features .* 1 of 12 rows .*: 4",
    ),
    (
      lambda bad: nearest_neighbors(KNOWN, KNOWN, unreadable(KNOWN, 5, 7, value=bad)),
      "test features .* 2 of 12 .*: 5, 7",
    ),
    (lambda bad: linear_probe(KNOWN, unreadable(KNOWN, 0, value=bad), KNOWN), "validation features .* rows .*: 0"),
    (lambda bad: neighbor_classes(KNOWN, spoiled(KNOWN.inputs, 1, value=bad), [1]), "query features.* rows .*: 1"),
    (lambda bad: neighbor_classes(unreadable(KNOWN, 2, value=bad), KNOWN.inputs, [1]), "known features .* rows .*: 2"),
    (lambda bad: mean_and_ci(spoiled(np.ones(4), 3, value=bad)), "scores to be finite, got 1 of 4 rows .*: 3"),
    (lambda bad: paired_difference(_score(1.0, bad), _score(1.0, 2.0)), "scores to be finite, got 1 of 2 rows .*: 1"),
    (
      lambda bad: mean_over_seeds([_score(1.0, 2.0), Score(bad, 1.0, None)]),
      "scores to be finite, got 1 of 2 rows .*: 1",
    ),
    (lambda bad: ratio_with_interval([1.0, bad], [1, 2]), "totals of texts to be finite, got 1 of 2 rows .*: 1"),
    (lambda bad: ratio_with_interval([1.0, 2.0], [bad, 2]), "counts of texts to be finite, got 1 of 2 rows .*: 0"),
  ],
)
def test_what_is_not_finite_has_no_score_and_its_rows_are_named(score, said, value):
  with pytest.raises(FloatingPointError, match=said):
    score(value)


def _score(*tasks):
  return Score(float(np.mean(tasks)), 0.0, np.array(tasks))


def _swallow(params, state, inputs):
  """Features of a broken network that are finite all the same."""
  return jnp.nan_to_num(inputs * params["weight"] + state["mean"])


@pytest.mark.parametrize(
  ("params", "state", "said"),
  [(np.nan, 0.0, "nan in the parameter weight"), (np.inf, 0.0, "inf in the parameter weight"),
   (1.0, np.nan, "a state without NaN, got one in mean")],
)  # fmt: skip
def test_a_broken_network_is_no_score_whatever_its_features_go_through(params, state, said):
  params, state = {"weight": np.float32(params)}, {"mean": np.float32(state)}
  predict = lambda params, state, support, inputs: _swallow(params, state, inputs)
  learner = Learner(None, None, None, predict)
  for score in (
    lambda: embed_dataset(_swallow, params, state, [KNOWN]),
    lambda: zero_shot_classifier(_swallow, params, state, np.ones((3, 4)), np.arange(3)),
    lambda: dataset_log_prob(_swallow, params, state, np.ones((3, 4))),
    lambda: few_shot_accuracy(learner, params, state, lambda: iter([]), 2),
    lambda: few_shot_mse(learner, params, state, lambda: iter([]), 2),
    lambda: adaptation_curve(lambda n: learner, params, state, lambda: iter([]), [0], 2),
  ):
    with pytest.raises(FloatingPointError, match=said):
      score()


def test_an_infinite_bound_in_a_state_is_no_fault():
  found = embed_dataset(
    lambda params, state, x: jnp.minimum(x, state["most"]), (), {"most": np.float32(np.inf)}, [KNOWN]
  )
  np.testing.assert_array_equal(found.inputs, KNOWN.inputs)


TOKENS = np.array([[0, 1, 2, -1], [2, 1, 0, 1]])
other = lambda *labels: KNOWN._replace(labels=np.array([*labels, *LABELS[len(labels) :]]))


@pytest.mark.parametrize(
  ("score", "said"),
  [
    (lambda: nearest_neighbors(KNOWN, KNOWN, other(7, 9)), "test labels that were trained on, got 7, 9 in 2 of 12"),
    (lambda: linear_probe(KNOWN, KNOWN, other(5)), "test labels that were trained on, got 5 in 1 of 12 rows"),
    (lambda: linear_probe(KNOWN, other(5), KNOWN), "validation labels that were trained on, got 5"),
    (lambda: nearest_neighbors(other(-1), KNOWN, KNOWN), r"train labels of at least 0, got -1 at \[0\]"),
    (lambda: neighbor_classes(KNOWN, KNOWN.inputs[:, :3], [1]), r"query features \[n, 4\], got \[12, 3\]"),
    (lambda: neighbor_classes(KNOWN, KNOWN.inputs, [13]), "neighbors to be a whole number from 1 to 12, got 13"),
    (lambda: nearest_neighbors(KNOWN, KNOWN, KNOWN, [1.5]), "neighbors to be a whole number of at least 1, got 1.5"),
    (lambda: nearest_neighbors(KNOWN, KNOWN, KNOWN, temperature=np.nan), "temperature to be above 0, got nan"),
    (lambda: linear_probe(KNOWN, KNOWN, KNOWN, [1.0, np.nan]), r"strengths above 0, got \[1.0, nan\]"),
    (lambda: zero_shot_classifier(None, {}, {}, np.ones((2, 3)), np.array([0, -1])), r"of at least 0, got -1 at \[1\]"),
    (lambda: zero_shot(CLASSES, Examples(np.ones((0, 4)), np.zeros(0, int))), "labels from 0 to 2, got"),
    (lambda: retrieval(np.ones((0, 4)), np.ones((0, 4)), np.zeros(0, int)), "a text for each of the 0 images"),
    (lambda: bigram(TOKENS, TOKENS, np.array([[0, 3]]), 3), r"test tokens from -1 to 2, got 3 at \[0, 1\]"),
    (lambda: bigram(TOKENS, TOKENS, np.array([[-1, 2]]), 3), "padding only at the ends of test rows, .* in row 0"),
    (lambda: bigram(TOKENS, TOKENS[:, :1], TOKENS, 3), r"validation rows of two tokens or more, got \[2, 1\]"),
    (lambda: independent_pixels(TOKENS + 1, TOKENS + 1, TOKENS, 4), r"test colors from 0 to 3, got -1 at \[0, 3\]"),
    (lambda: independent_pixels(TOKENS + 1, TOKENS[:0], TOKENS + 1, 4), r"validation rows of pixels, got \[0, 4\]"),
    (lambda: dataset_log_prob(_swallow, (), (), TOKENS, batch_size=0), "batch_size to be a whole number .* got 0"),
    (
      lambda: embed_dataset(lambda p, s, x: x[:3], (), (), [KNOWN]),
      r"an embedding \[12, d\] of 12 inputs, got \[3, 4\]",
    ),
    (lambda: embed_dataset(lambda p, s, x: x, (), (), [KNOWN._replace(labels=LABELS[:5])]), "of 12 inputs, got 5"),
    (lambda: mean_and_ci(np.ones((2, 3))), r"at least one score, \[tasks\], got \[2, 3\]"),
    (lambda: mean_and_ci(np.ones(0)), r"at least one score, \[tasks\], got \[0\]"),
    (lambda: one_shot_error(NOTHING, (), (), lambda: iter([])), "one batch of all runs, got none"),
    (lambda: mean_over_seeds([]), "at least one seed, got none"),
    (lambda: adaptation_curve(None, (), (), None, [-1]), "adaptation steps to be a whole number of at least 0, got -1"),
    (lambda: few_shot_accuracy(None, (), (), None, 2.5), "at least 2 tasks, as an interval requires, got 2.5"),
    (lambda: few_shot_mse(NOTHING, (), (), targets(np.nan), 2), "query targets .* finite, got 1 of 2"),
  ],
)
def test_labels_and_numbers_that_do_not_fit_are_refused_by_name(score, said):
  with pytest.raises(ValueError, match=said):
    score()


def targets(last):
  def batches(start=0, shard=(0, 1)):
    known = Examples(np.zeros((2, 1, 1), np.float32), np.zeros((2, 1, 1), np.float32))
    return itertools.repeat(Episode(known, known._replace(labels=spoiled(known.labels, 1, value=last))))

  return batches


@pytest.mark.parametrize(
  ("score", "said"),
  [
    (lambda: few_shot_accuracy(NOTHING, (), (), targets(0.0)(), 2), r"batches to be a function, .*, got a repeat"),
    (lambda: one_shot_error(NOTHING, (), (), [1]), "batches to be a function, .*, got a list"),
    (lambda: few_shot_accuracy(NOTHING.predict, (), (), targets(0.0), 2), "learner to be a Learner, got a function"),
    (
      lambda: few_shot_mse(Learner(*"abcd"), (), (), targets(0.0), 2),
      "learner's predict to be a function, .* got 'd'",
    ),
    (lambda: embed_dataset(NOTHING, (), (), [KNOWN]), "embed to be a function, .*, got a Learner"),
  ],
)
def test_what_is_no_learner_or_no_batches_is_refused(score, said):
  with pytest.raises(TypeError, match=said):
    score()


def test_one_score_has_a_mean_and_no_interval_without_a_warning():
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    found = mean_and_ci(np.array([50.0]))
    of_one = zero_shot(CLASSES, Examples(CLASSES[:1], LABELS[:1])).top_1
  assert found.mean == 50 and found.ci95 == of_one.ci95 == math.inf and of_one.mean == 100
  assert str(found) == "50.00 (one score: no interval)" and str(Score(50.0, 0.5, None)) == "50.00 ± 0.50"


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_neither_large_nor_small_features_lose_their_direction(size):
  """The square of 1e25 is infinite in 32 bits, that of 1e-25 is zero: such rows would all be alike."""
  np.testing.assert_allclose(unit(np.float32(KNOWN.inputs * size)), unit(KNOWN.inputs), rtol=1e-5)
  found = zero_shot(np.float32(CLASSES * size), unreadable(KNOWN)._replace(inputs=np.float32(KNOWN.inputs * size)))
  assert found.top_1.mean == zero_shot(CLASSES, KNOWN).top_1.mean > 80
  assert not unit(np.zeros((2, 3))).any()


def test_labels_may_have_gaps_however_wide():
  wide = KNOWN._replace(labels=LABELS * 10**9)
  answers = neighbor_classes(wide, KNOWN.inputs, [1, 3])
  np.testing.assert_array_equal(answers[1], wide.labels)
  for k, some in neighbor_classes(KNOWN, KNOWN.inputs, [1, 3]).items():
    np.testing.assert_array_equal(answers[k], some * 10**9)
