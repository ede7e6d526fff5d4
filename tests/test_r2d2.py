"""R2-D2: its logits are ridge regression's, whichever system is solved, and all it learns has an exact gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from finite_differences import direction_like, moved
from sklearn.linear_model import Ridge
from table_of_learners import classifier, episodes, one_hot

from metajax import Network, gradient_steps
from metajax.compose import linear
from metajax.learners import maml, r2d2
from metajax.losses import cross_entropy
from metajax.predictors import EMPTY_WAY, ridge, ridge_logits

STRENGTH = 0.7
encoder = linear(5)


def problem(rows, width, ways=3):
  random = np.random.default_rng(0)
  return random.normal(size=(rows, width)), one_hot(np.arange(rows) % ways, ways), random.normal(size=(5, width))


logits_of = jax.jit(lambda support, labels, queries: ridge_logits(support, labels, queries, STRENGTH))


def of_scikit_learn(support, labels, queries, l2):
  return Ridge(alpha=l2, fit_intercept=False).fit(support, labels).predict(queries)


@pytest.mark.parametrize(("rows", "width"), [(6, 20), (20, 6), (6, 6)])
@pytest.mark.usefixtures("float64")
def test_logits_are_those_of_ridge_regression_with_fewer_and_with_more_rows_than_features(rows, width):
  support, labels, queries = problem(rows, width)
  found = logits_of(support, labels, queries)
  np.testing.assert_allclose(found, of_scikit_learn(support, labels, queries, STRENGTH), rtol=1e-9)


def is_ridge(found, known, asked, scale):
  """Whether logits of the first task are `scale` times ridge regression's, of strength 0.7, on its embeddings."""
  labels = episodes(0).support.labels[0]
  expected = scale * of_scikit_learn(np.float64(known), labels, np.float64(asked), STRENGTH)
  return np.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_learner_predicts_by_ridge_regression_on_its_embedding_and_maml_does_not():
  learner = r2d2(encoder, l2=STRENGTH, scale=2.0)
  plain = maml(classifier, gradient_steps(optax.sgd(0.1), 1))
  support, query = jax.tree.map(lambda x: x[0], episodes(0))

  @jax.jit
  def run():
    started, weights = (one.init(jax.random.key(0), episodes(0)) for one in (learner, plain))
    embeddings = [learner.embed(*started, inputs) for inputs in (support.inputs, query.inputs)]
    return *(one.predict(*at, support, query.inputs) for one, at in ((learner, started), (plain, weights))), embeddings

  found, of_maml, embeddings = run()
  assert is_ridge(found, *embeddings, 2.0)
  assert not is_ridge(of_maml, *embeddings, 2.0)


def test_any_embedding_can_be_met_with_ridge_regression():
  predict = ridge(lambda params, state, inputs: inputs * params, STRENGTH)
  support, query = jax.tree.map(lambda x: x[0], episodes(0))
  expected = of_scikit_learn(2.0 * np.float64(support.inputs), support.labels, 2.0 * np.float64(query.inputs), STRENGTH)
  found = jax.jit(predict)(2.0, {}, support, query.inputs)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("rows", "width"), [(6, 20), (20, 6)])
def test_padded_rows_change_nothing_and_an_empty_way_is_never_chosen(rows, width):
  support, labels, queries = problem(rows, width)
  more = np.concatenate([support, np.full((3, width), 7.0)]), np.concatenate([labels, np.zeros((3, 3))])
  tasks = (support, labels), more, (support, np.pad(labels, ((0, 0), (0, 1))))
  expected, padded, wider = jax.jit(lambda: [ridge_logits(*known, queries, STRENGTH) for known in tasks])()
  np.testing.assert_allclose(padded, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(wider[:, :3], expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(wider[:, 3], EMPTY_WAY)


@pytest.mark.parametrize(("rows", "width"), [pytest.param(6, 9, marks=pytest.mark.slow), (9, 6)])
@pytest.mark.usefixtures("float64")
def test_the_gradient_through_the_solution_is_exact(rows, width):
  """And so is its own gradient, in forward and in reverse mode, by differences in one direction."""
  support, labels, queries = problem(rows, width)
  at = support, queries, np.log(STRENGTH)
  direction = direction_like(at)

  def loss(at):
    x, q, s = at
    return cross_entropy(ridge_logits(x, labels, q, jnp.exp(s)), one_hot([0, 1, 2, 0, 1]))

  along = lambda f: lambda at: jax.jvp(f, (at,), (direction,))[1]
  against = lambda f: lambda at: sum(map(jnp.vdot, jax.tree.leaves(jax.grad(f)(at)), jax.tree.leaves(direction)))

  @jax.jit
  def run(at):
    ways = along, against
    return loss(at), [way(loss)(at) for way in ways], [second(first(loss))(at) for first in ways for second in ways]

  (above, slopes_above, _), (below, slopes_below, _), (_, slopes, curves) = (
    run(moved(at, direction, size)) for size in (1e-5, -1e-5, 0.0)
  )
  np.testing.assert_allclose(slopes, [(above - below) / 2e-5] * 2, rtol=1e-6)
  np.testing.assert_allclose(curves, [(slopes_above[0] - slopes_below[0]) / 2e-5] * 4, rtol=1e-6)


def test_strength_and_scale_are_learned():
  learner = r2d2(encoder)

  @jax.jit
  def run():
    params, state = learner.init(jax.random.key(0), episodes(0))
    return params, jax.grad(lambda p: learner.loss(p, state, episodes(0), jax.random.key(0))[0])(params)

  params, found = run()
  assert np.exp(params["log_l2"]) == pytest.approx(1) and np.exp(params["log_scale"]) == pytest.approx(10)
  assert found["log_l2"] != 0 and found["log_scale"] != 0


@pytest.mark.parametrize("wrong", [{"l2": 0.0}, {"scale": -1.0}, {"l2": float("nan")}])
def test_a_strength_or_scale_that_is_not_above_zero_is_refused(wrong):
  ((name, value),) = wrong.items()
  with pytest.raises(ValueError, match=f"expected a {name} to be above 0, got {value}"):
    r2d2(encoder, **wrong)


def test_embeddings_that_are_not_rows_are_refused_at_init():
  maps = Network(lambda key, x: ({}, {}), lambda p, s, x, train, key=None: (x[:, None], s))
  with pytest.raises(ValueError, match=r"embeds inputs as \[n, d\], got an output of shape \[6, 1, 6\]"):
    r2d2(maps).init(jax.random.key(0), episodes(0))
