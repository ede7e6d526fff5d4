"""R2-D2: its logits are ridge regression's, whichever system is solved, and all it learns has an exact gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from sklearn.linear_model import Ridge
from table_of_learners import classifier, encoder, episodes, one_hot

from metajax import Network, gradient_steps
from metajax.learners import maml, r2d2
from metajax.losses import cross_entropy
from metajax.predictors import EMPTY_WAY, ridge, ridge_logits

STRENGTH = 0.7


def problem(rows, width, ways=3):
  random = np.random.default_rng(0)
  return random.normal(size=(rows, width)), one_hot(np.arange(rows) % ways, ways), random.normal(size=(5, width))


def of_scikit_learn(support, labels, queries, strength):
  return Ridge(alpha=strength, fit_intercept=False).fit(support, labels).predict(queries)


@pytest.mark.parametrize(("rows", "width"), [(6, 20), (20, 6), (6, 6)])
@pytest.mark.usefixtures("float64")
def test_logits_are_those_of_ridge_regression_with_fewer_and_with_more_rows_than_features(rows, width):
  support, labels, queries = problem(rows, width)
  found = ridge_logits(support, labels, queries, STRENGTH)
  np.testing.assert_allclose(found, of_scikit_learn(support, labels, queries, STRENGTH), rtol=1e-9)


def is_ridge(learner, embed, scale):
  """Whether a learner's logits are `scale` times ridge regression's, of strength 0.7, on the embeddings."""
  support, query = jax.tree.map(lambda x: x[0], episodes(0))
  known, asked = embed(support.inputs), embed(query.inputs)
  expected = scale * of_scikit_learn(np.float64(known), support.labels, np.float64(asked), STRENGTH)
  return np.allclose(learner(support, query.inputs), expected, rtol=1e-3, atol=1e-4)


def test_the_learner_predicts_by_ridge_regression_on_its_embedding_and_maml_does_not():
  learner = r2d2(encoder, strength=STRENGTH, scale=2.0)
  params, state = learner.init(jax.random.key(0), episodes(0))
  embed = lambda inputs: learner.embed(params, state, inputs)
  assert is_ridge(lambda *task: learner.predict(params, state, *task), embed, 2.0)
  plain = maml(classifier, gradient_steps(optax.sgd(0.1), 1))
  weights, _ = plain.init(jax.random.key(0), episodes(0))
  assert not is_ridge(lambda *task: plain.predict(weights, {"encoder": {}, "head": {}}, *task), embed, 2.0)


def test_any_embedding_can_be_met_with_ridge_regression():
  predict = ridge(lambda params, state, inputs: inputs * params, STRENGTH)
  support, query = jax.tree.map(lambda x: x[0], episodes(0))
  expected = of_scikit_learn(2.0 * np.float64(support.inputs), support.labels, 2.0 * np.float64(query.inputs), STRENGTH)
  np.testing.assert_allclose(predict(2.0, {}, support, query.inputs), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("rows", "width"), [(6, 20), (20, 6)])
def test_padded_rows_change_nothing_and_an_empty_way_is_never_chosen(rows, width):
  support, labels, queries = problem(rows, width)
  expected = ridge_logits(support, labels, queries, STRENGTH)
  more = np.concatenate([support, np.full((3, width), 7.0)]), np.concatenate([labels, np.zeros((3, 3))])
  np.testing.assert_allclose(ridge_logits(*more, queries, STRENGTH), expected, rtol=1e-4, atol=1e-5)
  wider = ridge_logits(support, np.pad(labels, ((0, 0), (0, 1))), queries, STRENGTH)
  np.testing.assert_allclose(wider[:, :3], expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(wider[:, 3], EMPTY_WAY)


@pytest.mark.parametrize(("rows", "width"), [pytest.param(6, 9, marks=pytest.mark.slow), (9, 6)])
@pytest.mark.usefixtures("float64")
def test_the_gradient_through_the_solution_is_exact(rows, width):
  support, labels, queries = map(jnp.asarray, problem(rows, width))
  loss = lambda x, q, s: cross_entropy(ridge_logits(x, labels, q, jnp.exp(s)), one_hot([0, 1, 2, 0, 1]))
  check_grads(loss, (support, queries, jnp.log(STRENGTH)), order=2, modes=["fwd", "rev"])


def test_strength_and_scale_are_learned():
  learner = r2d2(encoder)
  params, state = learner.init(jax.random.key(0), episodes(0))
  assert float(jnp.exp(params["log_strength"])) == pytest.approx(1) and float(jnp.exp(params["log_scale"])) == 10
  found = jax.grad(lambda p: learner.loss(p, state, episodes(0), jax.random.key(0))[0])(params)
  assert found["log_strength"] != 0 and found["log_scale"] != 0


@pytest.mark.parametrize("wrong", [{"strength": 0.0}, {"scale": -1.0}, {"strength": float("nan")}])
def test_a_strength_or_scale_that_is_not_above_zero_is_refused(wrong):
  ((name, value),) = wrong.items()
  with pytest.raises(ValueError, match=f"expected a {name} to be above 0, got {value}"):
    r2d2(encoder, **wrong)


def test_embeddings_that_are_not_rows_are_refused_at_init():
  maps = Network(lambda key, x: ({}, {}), lambda p, s, x, train, key=None: (x[:, None], s))
  with pytest.raises(ValueError, match=r"embeds inputs as \[n, d\], got an output of shape \[6, 1, 6\]"):
    r2d2(maps).init(jax.random.key(0), episodes(0))
