"""Prototypical networks: the logits are those of the paper, for any ways, and a query depends on no other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table_of_learners import LEARNERS, episodes, image_episodes, one_hot

from metajax import Network
from metajax.learners import prototypical
from metajax.losses import cross_entropy
from metajax.networks import conv4
from metajax.predictors import EMPTY_WAY, centroid_logits, nearest_centroid, squared_distances

learner = LEARNERS["prototypical"].learner


@pytest.fixture(scope="module")
def made():
  return jax.jit(learner.init)(jax.random.key(0), episodes(0))


embed, predict = jax.jit(learner.embed), jax.jit(learner.predict)


def reference(support, labels, queries):
  """Minus the squared distance of each query to the mean of each way, one number at a time."""
  found = np.zeros((len(queries), labels.shape[1]))
  for row, query in enumerate(np.float64(queries)):
    for way in range(labels.shape[1]):
      members = [np.float64(s) for s, label in zip(support, labels, strict=True) if label[way] == 1]
      found[row, way] = -np.sum((query - sum(members) / len(members)) ** 2)
  return found


@pytest.mark.parametrize("ways", [2, 3, 5])
def test_logits_are_minus_squared_distances_to_class_means_for_any_number_of_ways(made, ways):
  support, query = jax.tree.map(lambda x: x[0], episodes(1, ways=ways, shots=3))
  found = predict(*made, support, query.inputs)
  embedded = [embed(*made, inputs) for inputs in (support.inputs, query.inputs)]
  np.testing.assert_allclose(found, reference(embedded[0], support.labels, embedded[1]), rtol=1e-4, atol=1e-5)


def test_loss_is_the_cross_entropy_of_those_logits(made):
  batch = episodes(1, tasks=2)

  @jax.jit
  def run(made, key):
    tasks = [jax.tree.map(lambda x, task=task: x[task], batch) for task in range(2)]
    losses = [
      cross_entropy(learner.predict(*made, task.support, task.query.inputs), task.query.labels) for task in tasks
    ]
    return learner.loss(*made, batch, key)[0], losses

  found, losses = run(made, jax.random.key(0))
  np.testing.assert_allclose(found, np.mean(losses), rtol=1e-5)


def test_shots_may_differ_by_way():
  random = np.random.default_rng(0)
  support, labels, queries = random.normal(size=(6, 4)), one_hot([0, 2, 2, 1, 2, 1]), random.normal(size=(5, 4))
  found = jax.jit(centroid_logits)(support, labels, queries)
  np.testing.assert_allclose(found, reference(support, labels, queries), rtol=1e-5)


def test_an_empty_way_is_never_chosen_and_loses_no_gradient():
  random = np.random.default_rng(0)
  support, queries = (random.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
  labels = one_hot([0, 2, 2, 0])
  loss = lambda support, queries: cross_entropy(centroid_logits(support, labels, queries), one_hot([0, 2, 0, 2]))
  without = lambda support, queries: cross_entropy(
    centroid_logits(support, labels[:, [0, 2]], queries), one_hot([0, 1, 0, 1], 2)
  )

  @jax.jit
  def run(*both):
    return centroid_logits(both[0], labels, both[1]), *(jax.grad(f, (0, 1))(*both) for f in (loss, without))

  logits, *gradients = jax.device_get(run(support, queries))
  np.testing.assert_array_equal(logits[:, 1], EMPTY_WAY)
  assert EMPTY_WAY == -1e9 and np.all(logits[:, [0, 2]] > -100)
  for found, expected in zip(*gradients, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_query_does_not_depend_on_the_other_queries_even_with_batch_norm():
  learner = LEARNERS["prototypical, batch norm"].learner
  support, query = jax.tree.map(lambda x: x[0], image_episodes(0))
  params, state = jax.jit(learner.init)(jax.random.key(0), image_episodes(0))
  predict = jax.jit(learner.predict)
  changed = np.concatenate([query.inputs[:2], 5 + query.inputs[2:] ** 2])
  first, second = (np.asarray(predict(params, state, support, inputs)) for inputs in (query.inputs, changed))
  np.testing.assert_allclose(first[:2], second[:2], rtol=1e-5)
  assert np.ptp(first[:2]) > 0.5 * np.abs(first[:2]).max() and not np.allclose(first[2:], second[2:])


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_squared_distances_are_precise_far_from_the_origin(offset):
  random = np.random.default_rng(0)
  first, second = ((random.normal(size=(n, 16)) + offset).astype(np.float32) for n in (7, 5))
  exact = np.square(np.float64(first)[:, None] - np.float64(second)[None]).sum(-1)
  np.testing.assert_allclose(jax.jit(squared_distances)(first, second), exact, rtol=1e-5)


def test_gradient_of_squared_distances_is_twice_the_difference():
  random = np.random.default_rng(0)
  first, second = (random.normal(size=(n, 4)).astype(np.float32) for n in (3, 2))
  weight = random.normal(size=(3, 2)).astype(np.float32)
  found = jax.jit(jax.grad(lambda *both: jnp.vdot(weight, squared_distances(*both)), (0, 1)))(first, second)
  pulls = 2 * weight[..., None] * (first[:, None] - second[None])
  np.testing.assert_allclose(found[0], pulls.sum(1), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(found[1], -pulls.sum(0), rtol=1e-4, atol=1e-5)


def test_nearest_centroid_predicts_from_any_embedding():
  predict = jax.jit(nearest_centroid(lambda params, state, inputs: inputs @ params))
  support, query = jax.tree.map(lambda x: x[0], episodes(0, shape=(2,)))
  turned = np.array([[0, 2.0], [1, 0]], np.float32)
  expected = reference(support.inputs @ turned, support.labels, query.inputs @ turned)
  np.testing.assert_allclose(predict(turned, {}, support, query.inputs), expected, rtol=1e-4, atol=1e-5)


def test_embeddings_that_are_not_rows_are_refused_at_init():
  maps = Network(lambda key, x: ({}, {}), lambda p, s, x, train, key=None: (x[:, None], s))
  with pytest.raises(ValueError, match=r"embeds inputs as \[n, d\], got an output of shape \[6, 1, 6\]"):
    prototypical(maps).init(jax.random.key(0), episodes(0))


def test_dropout_is_drawn_from_the_key():
  noise = Network(lambda key, x: ({}, {}), lambda p, s, x, train, key=None: (x + jax.random.normal(key, x.shape), s))
  made = ({"encoder": {}, "head": {}},) * 2
  run = jax.jit(lambda seed: prototypical(noise).loss(*made, episodes(0), jax.random.key(seed))[0])
  assert run(0) == run(0) != run(1)


def test_padded_rows_are_refused_where_batch_statistics_are_kept():
  batch = jax.tree.map(np.array, image_episodes(0))
  batch.query.labels[3, -1] = 0
  init = lambda: jax.eval_shape(lambda key: prototypical(conv4(4)).init(key, batch), jax.random.key(0))
  with pytest.raises(ValueError, match=r"no padded rows .* batch statistics, got some in the query"):
    init()
  batch.query.labels[3] = 0  # a task that is padding as a whole is right
  init()
