"""Siamese networks: the matching probability and the loss are the paper's, and the prediction is the best match."""

import jax
import numpy as np
import pytest
from finite_differences import check_slopes
from table_of_learners import LEARNERS, encoder, episodes, image_episodes, labeled, labeled_pairs, one_hot

from metajax import Examples, Pair
from metajax.compose import flatten
from metajax.learners import siamese
from metajax.learners.siamese import pairs_of_one
from metajax.losses import binary_cross_entropy
from metajax.networks import conv4
from metajax.predictors import EMPTY_WAY

learner = LEARNERS["siamese"].learner


@pytest.fixture(scope="module")
def made():
  return jax.device_get(jax.jit(learner.init)(jax.random.key(0), labeled_pairs(0)))


embed, predict = jax.jit(learner.embed), jax.jit(learner.predict)


def probability(weights, first, second):
  """`sigmoid(sum_j alpha_j |a_j - b_j| + b)`, one number at a time."""
  total = float(weights["bias"][0])
  for alpha, a, b in zip(weights["weight"][:, 0], first, second, strict=True):
    total += float(alpha) * abs(float(a) - float(b))
  return 1 / (1 + np.exp(-total))


def test_loss_is_the_cross_entropy_of_the_papers_matching_probability(made):
  (params, state), (pair, labels) = made, labeled_pairs(1)
  first, second = (np.asarray(embed(params, state, half)) for half in pair)
  found = [probability(params["compare"], a, b) for a, b in zip(first, second, strict=True)]
  same = labels[:, 1]
  expected = -np.mean(same * np.log(found) + (1 - same) * np.log(1 - np.array(found)))
  loss, (_, metrics) = jax.jit(learner.loss)(params, state, labeled_pairs(1), jax.random.key(0))
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], np.mean((np.array(found) > 0.5) == (same == 1)), rtol=1e-6)


def test_pairs_of_a_batch_weigh_half_those_of_one_class_and_half_those_of_two():
  batch = labeled(1)
  learner = siamese(encoder, pairs="batch")

  @jax.jit
  def run(key):
    made = learner.init(key, batch)
    return made[0], learner.embed(*made, batch.inputs), learner.loss(*made, batch, key)

  params, rows, (loss, (_, metrics)) = jax.device_get(run(jax.random.key(0)))
  classes = batch.labels.argmax(-1)
  of_kind = {True: [], False: []}
  for i, a in enumerate(rows):
    for j, b in enumerate(rows):
      if i != j:
        p = probability(params["compare"], a, b)
        same = bool(classes[i] == classes[j])
        of_kind[same].append((-np.log(p if same else 1 - p), (p > 0.5) == same))
  (same, rightly), (other, rightly_not) = (np.mean(of_kind[kind], 0) for kind in (True, False))
  np.testing.assert_allclose(loss, (same + other) / 2, rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], (rightly + rightly_not) / 2, rtol=1e-6)


def test_pairs_are_given_or_of_the_batch():
  with pytest.raises(ValueError, match="pairs to be 'given' or 'batch', got 'all'"):
    siamese(encoder, pairs="all")
  with pytest.raises(ValueError, match="pairs 'given' with an augmentation"):
    siamese(encoder, pairs="batch", augmentation=lambda key, x: x)
  batch = labeled(0)
  with pytest.raises(ValueError, match=r"two rows of one class .* got \[1.0, 1.0"):
    siamese(encoder, pairs="batch").init(jax.random.key(0), Examples(batch.inputs[:4], one_hot(np.arange(4), 4)))


@pytest.mark.parametrize("ways", [2, 5])
def test_a_query_is_of_the_class_of_the_support_image_that_matches_most_probably(made, ways):
  support, query = jax.tree.map(lambda x: x[0], episodes(1, ways=ways, shots=3))
  found = np.asarray(predict(*made, support, query.inputs))
  known, asked = (np.asarray(embed(*made, inputs)) for inputs in (support.inputs, query.inputs))
  for row, a in zip(found, asked, strict=True):
    each = [probability(made[0]["compare"], a, b) for b in known]
    of_way = [max(p for p, label in zip(each, support.labels, strict=True) if label[way]) for way in range(ways)]
    np.testing.assert_allclose(row, np.log(of_way), rtol=1e-4, atol=1e-6)


def test_ways_without_support_are_never_chosen(made):
  support, query = jax.tree.map(lambda x: x[0], episodes(1))
  without = support._replace(labels=support.labels * np.array([1, 0, 1], np.float32))
  found = np.asarray(predict(*made, without, query.inputs))
  of_all = np.asarray(predict(*made, support, query.inputs))
  np.testing.assert_array_equal(found[:, 1], EMPTY_WAY)
  np.testing.assert_allclose(found[:, ::2], of_all[:, ::2], rtol=1e-6)


def test_gradient_is_that_of_finite_differences(float64):
  batch = jax.tree.map(np.float64, labeled_pairs(0))
  params, state = jax.jit(siamese(encoder).init)(jax.random.key(0), batch)
  check_slopes(lambda p: learner.loss(p, state, batch, jax.random.key(0))[0], (params,))


def test_far_from_undecided_the_loss_is_linear_and_not_infinite():
  logits, labels = np.float32([200.0, -200.0]), one_hot([0, 1], 2)
  loss, gradient = jax.jit(jax.value_and_grad(binary_cross_entropy))(logits, labels)
  assert loss == 200
  np.testing.assert_allclose(gradient, [0.5, -0.5])


def test_one_example_a_class_makes_half_same_half_different_from_images_alone():
  inputs = np.arange(6, dtype=np.float32)[:, None]
  pair, labels = jax.device_get(jax.jit(lambda key: pairs_of_one(lambda _, x: x + 100, key, inputs))(jax.random.key(0)))
  np.testing.assert_array_equal(labels, one_hot([1, 0, 1, 0, 1, 0], 2))
  np.testing.assert_array_equal(pair.first[:, 0] - 100, np.arange(6))
  np.testing.assert_array_equal(pair.second[:, 0] - 100, [0, 2, 2, 4, 4, 0])


def test_one_image_alone_is_no_pair():
  with pytest.raises(ValueError, match="at least 2 images to pair, got 1"):
    siamese(encoder, augmentation=lambda key, x: x).init(jax.random.key(0), np.zeros((1, 6), np.float32))


def test_each_half_of_each_pair_has_a_distortion_of_its_own():
  noise = lambda key, x: jax.random.normal(key, x.shape)
  pair, _ = jax.jit(lambda key: pairs_of_one(noise, key, np.zeros((8, 1), np.float32)))(jax.random.key(0))
  assert len(np.unique(np.concatenate(pair))) == 16


@pytest.mark.parametrize(
  ("batch", "message"),
  [
    (labeled(0), "inputs are a Pair, got one of type ndarray"),
    (episodes(0), "a batch of Examples, got one of type Episode"),
    (labeled_pairs(0)._replace(labels=one_hot(np.arange(16) % 3)), r"labels \[n, 2\], .*, got \[16, 3\]"),
  ],
)
def test_what_is_no_batch_of_pairs_is_refused_at_init(batch, message):
  with pytest.raises(ValueError, match=message):
    learner.init(jax.random.key(0), batch)


def test_embeddings_that_are_not_rows_and_padded_rows_beside_batch_norm_are_refused():
  maps = flatten()._replace(apply=lambda p, s, x, train, key=None: (x, s))
  image = image_episodes(0).support.inputs[0, :4]
  with pytest.raises(ValueError, match=r"embeds inputs as \[n, d\], got an output of shape \[4, 16, 16, 1\]"):
    siamese(maps).init(jax.random.key(0), Examples(Pair(image, image), one_hot([0, 1, 0, 1], 2)))
  padded = one_hot([0, 1, 0, 1], 2)
  padded[3] = 0
  with pytest.raises(ValueError, match="no padded rows"):
    examples = Examples(Pair(image, image), padded)
    jax.eval_shape(lambda key: siamese(conv4(4)).init(key, examples), jax.random.key(0))
