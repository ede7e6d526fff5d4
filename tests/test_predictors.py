"""Transfer: predictors of any embedding, each against a plain reference, and supervised pre-training."""

import functools
from functools import partial

import jax
import numpy as np
import optax
import pytest
from table_of_learners import LEARNERS, convolution, encoder, episodes, image_episodes, labeled

from metajax import fit, gradient_steps
from metajax.adapt import chain, only
from metajax.compose import cosine, linear, perceptron, unit_rows, with_head
from metajax.learners import maml, supervised
from metajax.losses import cross_entropy
from metajax.predictors import adapted_head, fine_tuned, nearest_centroid, normalized, perceptron_head, ridge

steps = lambda number, rate=0.5: gradient_steps(optax.sgd(rate), number, gradient="first_order")
PREDICTORS = {
  "nearest centroid, normalized": lambda embed: nearest_centroid(normalized(embed)),
  "head": partial(adapted_head, adapt=steps(20)),
  "cosine head": partial(adapted_head, adapt=steps(1000, 0.1), head=cosine),
  "perceptron": partial(perceptron_head, adapt=steps(20), hidden=8),
  "ridge": ridge,
  "everything": partial(fine_tuned, adapt=steps(5, 0.1)),
}


def task(seed=0, ways=3):
  return jax.tree.map(lambda x: x[0], episodes(seed, ways=ways, shots=4))


def identity(params, state, inputs):
  return inputs


def logistic_regression(x, y, number, rate):
  """Gradient descent from zeros, in NumPy."""
  weight, bias = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
  for _ in range(number):
    scores = np.exp(x @ weight + bias)
    error = (scores / scores.sum(1, keepdims=True) - y) / len(x)
    weight, bias = weight - rate * x.T @ error, bias - rate * error.sum(0)
  return weight, bias


@functools.cache
def started(learner):
  return jax.jit(LEARNERS[learner].learner.init)(jax.random.key(0), LEARNERS[learner].batch(0))


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("learner", ["prototypical", "maml, embedding by its encoder", "supervised"])
def test_any_learner_s_embedding_can_be_met_with_any_predictor_at_any_number_of_ways(name, learner):
  row = LEARNERS[learner]
  params, state = started(learner)
  predict = jax.jit(PREDICTORS[name](row.learner.embed))
  for ways in (2, 4):
    support, query = task(ways=ways)
    found = np.asarray(predict(params, state, support, query.inputs))
    assert found.shape == query.labels.shape
    assert np.mean(np.argmax(found, -1) == np.argmax(query.labels, -1)) > 0.7


def test_a_head_is_trained_by_logistic_regression_on_frozen_features():
  support, query = task()
  both = [adapted_head(identity, steps(30)), perceptron_head(identity, steps(30))]
  found, linear_perceptron = jax.jit(lambda *task: [one((), {}, *task) for one in both])(support, query.inputs)
  weight, bias = logistic_regression(np.float64(support.inputs), support.labels, 30, 0.5)
  np.testing.assert_allclose(found, query.inputs @ weight + bias, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(found, linear_perceptron, rtol=1e-6)


def test_fine_tuning_the_head_of_everything_is_a_head_on_frozen_features():
  support, query = task()
  embed = lambda params, state, inputs: encoder.apply(params, state, inputs, train=False)[0]
  first_the_head = chain(only("head", steps(5)), steps(5, 0.1))

  @jax.jit
  def run(key):
    made = encoder.init(key, support.inputs)
    ways = adapted_head(embed, steps(5)), fine_tuned(embed, only("head", steps(5))), fine_tuned(embed, first_the_head)
    return [predict(*made, support, query.inputs) for predict in ways]

  frozen, head_alone, head_first = run(jax.random.key(0))
  np.testing.assert_allclose(head_alone, frozen, rtol=1e-5, atol=1e-6)
  assert not np.allclose(head_first, frozen, atol=1e-3)


def test_fine_tuning_everything_is_gradient_descent_on_embedding_and_head():
  support, query = task()
  network = with_head(encoder, linear(3, scale=0.0))
  embed = lambda params, state, inputs: encoder.apply(params, state, inputs, train=False)[0]

  @jax.jit
  def run(key):
    params, state = encoder.init(key, support.inputs)
    both = {"encoder": params, "head": network.init(key, support.inputs)[0]["head"]}
    of = lambda both, inputs: network.apply(both, {"encoder": state, "head": {}}, inputs, train=True)[0]
    slope = jax.grad(lambda both: cross_entropy(of(both, support.inputs), support.labels))
    descend = lambda _, both: jax.tree.map(lambda p, g: p - 0.1 * g, both, slope(both))
    expected = of(jax.lax.fori_loop(0, 4, descend, both), query.inputs)
    return fine_tuned(embed, steps(4, 0.1))(params, state, support, query.inputs), expected

  np.testing.assert_allclose(*run(jax.random.key(0)), rtol=1e-4, atol=1e-5)


def test_fine_tuning_leaves_running_statistics_as_they_are():
  learner = supervised(convolution, partial(fine_tuned, adapt=steps(2, 0.1)))
  images = jax.tree.map(lambda x: x[0], image_episodes(0))
  params, state = jax.jit(learner.init)(jax.random.key(0), images.support)
  changed = np.concatenate([images.query.inputs[:2], 5 + images.query.inputs[2:] ** 2])
  predict = jax.jit(learner.predict)
  first, second = (
    np.asarray(predict(params, state, images.support, inputs)) for inputs in (images.query.inputs, changed)
  )
  np.testing.assert_allclose(first[:2], second[:2], rtol=1e-4, atol=1e-5)


def test_a_cosine_head_sees_directions_alone():
  head, features = cosine(3, scale=10.0), np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

  @jax.jit
  def run(key):
    params, _ = head.init(key, features)
    return params, *(head.apply(params, {}, x, train=False)[0] for x in (features, 7 * features))

  params, found, of_longer = run(jax.random.key(0))
  weight = np.asarray(params["weight"])
  lengths = np.linalg.norm(features, axis=1)[:, None] * np.linalg.norm(weight, axis=0)
  np.testing.assert_allclose(found, 10 * (features @ weight) / lengths, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(of_longer, found, rtol=1e-4, atol=1e-5)


def test_unit_rows_of_zeros_are_zeros_with_a_finite_gradient():
  rows = np.array([[3.0, 4.0], [0.0, 0.0]])
  found, gradient = jax.jit(lambda x: (unit_rows(x), jax.grad(lambda x: unit_rows(x).sum())(x)))(rows)
  np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
  assert np.isfinite(gradient).all()


def test_a_perceptron_is_two_layers_with_a_relu_between():
  network, features = perceptron(4, 2), np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)

  @jax.jit
  def run(key):
    params, state = network.init(key, features)
    return params, network.apply(params, state, features, train=True)[0]

  params, found = jax.device_get(run(jax.random.key(0)))
  first, second = params["encoder"], params["head"]
  hidden = np.maximum(features @ first["weight"] + first["bias"], 0)
  expected = hidden @ second["weight"] + second["bias"]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def is_supervised(learner, batch):
  """Whether a learner's loss is the cross-entropy of all training classes at once."""
  network = with_head(encoder, linear(4))

  @jax.jit
  def losses(key):
    params, state = learner.init(key, batch)
    logits, _ = network.apply(params, state, batch.inputs, train=True)
    return learner.loss(params, state, batch, key)[0], cross_entropy(logits, batch.labels)

  return np.allclose(*losses(jax.random.key(0)))


def test_supervised_training_tells_all_classes_apart_and_plain_maml_does_not():
  assert is_supervised(supervised(encoder), labeled(0))
  with pytest.raises(ValueError, match="a batch of Episodes, got one of type Examples"):  # MAML is trained on tasks
    is_supervised(maml(with_head(encoder, linear(4)), steps(1)), labeled(0))


def test_pre_training_makes_new_classes_easier():
  learner = supervised(encoder)
  trained = fit(learner, optax.adam(0.01), lambda start, shard: (labeled(0, 64) for _ in range(start, 60)), 60)
  loss = jax.jit(lambda params: learner.loss(params, trained.state, labeled(0, 64), jax.random.key(0))[0])
  fresh, _ = jax.jit(learner.init)(jax.random.key(5), labeled(0))
  assert loss(trained.params) < 0.5 * loss(fresh)


@pytest.mark.parametrize(("labels", "message"), [
  (np.zeros(4), r"one-hot labels \[n, classes\], got an array of shape \[4\]"),
  (np.full((4, 2), 0.5), r"one-hot .*got the row \[0.5, 0.5\]"),
])  # fmt: skip
def test_supervised_labels_that_are_not_one_hot_rows_are_refused(labels, message):
  with pytest.raises(ValueError, match=message):
    supervised(encoder).init(jax.random.key(0), labeled(0)._replace(labels=labels))


def test_padded_rows_are_refused_where_batch_statistics_are_kept():
  images = jax.tree.map(lambda x: np.array(x[0]), image_episodes(0)).support
  images.labels[1] = 0
  with pytest.raises(ValueError, match=r"no padded rows .* batch statistics, got some"):
    jax.eval_shape(lambda key: supervised(convolution).init(key, images), jax.random.key(0))
