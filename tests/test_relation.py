"""Relation networks: scores and loss are the paper's, but for the mean over shots that makes them fit any number."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finite_differences import check_slopes
from table_of_learners import LEARNERS, episodes, maps, module, one_hot

from metajax import Network
from metajax.compose import on_pairs
from metajax.learners import relation
from metajax.losses import mse
from metajax.networks import from_linen, mlp, relation_module
from metajax.networks.linen.conv4 import Blocks

learner = LEARNERS["relation"].learner


@pytest.fixture(scope="module")
def made():
  return jax.jit(learner.init)(jax.random.key(0), episodes(0))


predict = jax.jit(learner.predict)


def reference(params, known, labels, asked):
  """Equation 1 of arXiv:1711.06025 with the mean of a class, in NumPy: one score at a time."""
  first, second = (jax.tree.map(np.float64, params["head"][f"Dense_{i}"]) for i in range(2))
  found = np.zeros((len(asked), labels.shape[1]))
  for row, query in enumerate(np.float64(asked)):
    for way in range(labels.shape[1]):
      members = [np.float64(s) for s, label in zip(known, labels, strict=True) if label[way]]
      pair = np.concatenate([sum(members) / len(members), query])
      hidden = np.tanh(pair @ first["kernel"] + first["bias"])
      found[row, way] = 1 / (1 + np.exp(-(hidden @ second["kernel"] + second["bias"])[0]))
  return found


@pytest.mark.parametrize("ways", [2, 5])
def test_scores_are_the_papers_with_the_mean_of_a_class(made, ways):
  support, query = jax.tree.map(lambda x: x[0], episodes(1, ways=ways, shots=3))
  known, asked = (jax.jit(learner.embed)(*made, inputs) for inputs in (support.inputs, query.inputs))
  found = predict(*made, support, query.inputs)
  np.testing.assert_allclose(found, reference(made[0], known, support.labels, asked), rtol=1e-5, atol=1e-6)
  assert np.ptp(found) > 0.02


def test_loss_is_the_mean_squared_error_of_the_scores(made):
  batch, losses = episodes(1, tasks=2), []
  for task in range(2):
    support, query = jax.tree.map(lambda x, task=task: x[task], batch)
    losses.append(np.mean((np.float64(predict(*made, support, query.inputs)) - query.labels) ** 2))
  found = jax.jit(learner.loss)(*made, batch, jax.random.key(0))[0]
  np.testing.assert_allclose(found, np.mean(losses), rtol=1e-5)


def test_twice_the_same_shots_give_the_same_scores(made):
  support, query = jax.tree.map(lambda x: x[0], episodes(1))
  twice = jax.tree.map(lambda x: np.concatenate([x, x]), support)
  first, second = (predict(*made, s, query.inputs) for s in (support, twice))
  np.testing.assert_allclose(first, second, rtol=1e-5)


def test_a_way_without_support_has_the_score_0(made):
  support, query = jax.tree.map(lambda x: x[0], episodes(1))
  without = support._replace(labels=support.labels * np.array([1, 0, 1], np.float32))
  found = np.asarray(predict(*made, without, query.inputs))
  assert not found[:, 1].any() and found[:, ::2].all()


def test_padded_rows_weigh_nothing_in_the_error_of_scores():
  scores, labels = np.float32([[0.5, 0.1], [0.9, 0.9]]), one_hot([0, 1], 2)
  labels[1] = 0
  np.testing.assert_allclose(jax.jit(mse)(scores, labels), (0.25 + 0.01) / 2, rtol=1e-6)
  with pytest.raises(ValueError, match=r"\[2, 2\] for labels of 2 ways, got \[1, 2\]"):
    mse(scores[:1], labels)


def test_gradient_is_that_of_finite_differences(float64):
  batch = jax.tree.map(np.float64, episodes(0, tasks=1))
  params, state = jax.tree.map(np.float64, jax.jit(learner.init)(jax.random.key(0), batch))
  check_slopes(lambda p: learner.loss(p, state, batch, jax.random.key(0))[0], (params,))


def test_a_module_that_does_not_score_pairs_is_refused_at_init():
  with pytest.raises(ValueError, match=r"from 18 pairs to \[18, 1\], got \[18, 2\]"):
    jax.eval_shape(relation(maps, on_pairs(mlp((), 2))).init, jax.random.key(0), episodes(0))
  flat = Network(module.init, lambda *given, **flags: (module.apply(*given, **flags)[0].reshape(-1), {}))
  with pytest.raises(ValueError, match=r"from 3 classes and 6 queries to \[6, 3\], got \[18\]"):
    jax.eval_shape(relation(maps, flat).init, jax.random.key(0), episodes(0))


@pytest.mark.parametrize("normalization", ["batch", "layer", "none"])
def test_the_module_is_that_of_pairs_side_by_side(normalization):
  """The first convolution is of each map once; that of every pair side by side is the paper's."""
  random = np.random.default_rng(0)
  classes, queries = (random.normal(size=(n, 7, 7, 3)).astype(np.float32) for n in (2, 4))
  factored = relation_module(5, 4, normalization=normalization)

  def side_by_side(params, state, classes, queries):
    blocks = {name: of["blocks"] for name, of in state.items()}
    pairs = jnp.concatenate([jnp.tile(classes, (4, 1, 1, 1)), jnp.repeat(queries, 2, 0)], -1)
    network = from_linen(Blocks(2, 5, "max_pool", "flatten", 2, normalization, "slices"))
    features, after = network.apply(params["blocks"], blocks, pairs, train=True)
    dense = lambda x, of: x @ of["kernel"] + of["bias"]
    return dense(jax.nn.relu(dense(features, params["hidden"])), params["score"]).reshape(4, 2), after

  @jax.jit
  def run(classes, queries):
    made = factored.init(jax.random.key(0), classes, queries)
    return factored.apply(*made, classes, queries, train=True), side_by_side(*made, classes, queries)

  (found, after), (expected, expected_after) = run(classes, queries)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  for name, of in after.items():
    chex.assert_trees_all_close(of["blocks"], expected_after[name], rtol=1e-4, atol=1e-6)


def test_padded_rows_are_refused_where_the_module_keeps_batch_statistics():
  batch = jax.tree.map(np.array, episodes(0))
  batch.query.labels[0, 0] = 0
  counting = Network(
    lambda key, *x: (module.init(key, *x)[0], {"mean": jnp.ones(1)}),
    lambda params, state, *x, train, key=None: (module.apply(params, {}, *x, train=train)[0], state),
  )
  with pytest.raises(ValueError, match="no padded rows"):
    jax.eval_shape(lambda key: relation(maps, counting).init(key, batch), jax.random.key(0))
