"""iMAML: the gradient of where a pulled inner loop ends, whatever the way there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table_of_learners import regressions

from metajax import Network, fit
from metajax.learners import imaml
from metajax.losses import squared_error

KEY, STRENGTH = jax.random.key(1), 0.7
# Linear in three features of its input: the inner loss is a quadratic.
features = lambda x: jnp.concatenate([x, jnp.sin(x), x**2 / 3], 1)
linear = Network(
  lambda key, x: ({"weight": jax.random.normal(key, (3, 1))}, {}),
  lambda params, state, x, **_: (features(x) @ params["weight"], state),
)


PARAMS = {"weight": np.random.default_rng(5).normal(size=(3, 1)).astype(np.float32)}


def learner(steps=300, **how):
  return imaml(
    linear, optax.sgd(0.2), steps, **{"proximal_strength": STRENGTH, "damping": 0.0, "loss": squared_error, **how}
  )


def solution(weight, support):
  """`(H + strength)^-1 (strength theta + X' y 2 / n)` with `H = 2 X' X / n`, of the mean squared error."""
  x = features(support.inputs)
  hessian = 2 * x.T @ x / len(x)
  return jnp.linalg.solve(hessian + STRENGTH * jnp.eye(3), STRENGTH * weight + 2 * x.T @ support.labels / len(x))


def closed(params, batch):
  one = lambda task: squared_error(
    features(task.query.inputs) @ solution(params["weight"], task.support), task.query.labels
  )
  return jnp.mean(jax.vmap(one)(batch))


def test_loss_and_gradient_on_a_quadratic_are_those_of_the_closed_form(float64):
  batch, params = jax.tree.map(np.float64, (regressions(0), PARAMS))
  of_learner = jax.value_and_grad(lambda p: learner().loss(p, {}, batch, KEY)[0])
  found, expected = jax.jit(lambda p: (of_learner(p), jax.value_and_grad(closed)(p, batch)))(params)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, expected)


def test_prediction_is_that_of_the_pulled_solution():
  support, query = jax.tree.map(lambda x: x[0], regressions(0))

  @jax.jit
  def both(params):
    found = learner().predict(params, {}, support, query.inputs)
    return found, features(query.inputs) @ solution(params["weight"], support)

  found, expected = both(PARAMS)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_damping_shrinks_the_gradient_and_not_the_loss():
  """By the system's matrix: `strength (H + strength + damping)^-1`."""
  batch = jax.tree.map(lambda x: x[:1], regressions(0))
  of = lambda params, **how: jax.value_and_grad(lambda p: learner(**how).loss(p, {}, batch, KEY)[0])(params)

  @jax.jit
  def both(params):
    return of(params), of(params, damping=2.0), features(batch.support.inputs[0])

  (plain, slope), (damped, less), x = jax.device_get(both(PARAMS))
  np.testing.assert_allclose(plain, damped)
  matrix = 2 * x.T @ x / len(x) + STRENGTH * np.eye(3)
  expected = np.linalg.solve(matrix + 2 * np.eye(3), matrix @ slope["weight"])
  np.testing.assert_allclose(less["weight"], expected, rtol=1e-3, atol=1e-5)


def test_memory_does_not_grow_with_steps():
  batch = regressions(0)

  def memory(steps):
    one = learner(steps)
    step = jax.jit(jax.grad(lambda p: one.loss(p, {}, batch, KEY)[0]))
    return step.lower(PARAMS).compile().memory_analysis().temp_size_in_bytes

  assert memory(200) <= memory(10) + 8 * 200  # of the path, a number a step


def test_it_learns():
  batches = lambda start=0, shard=(0, 1): (regressions(i) for i in range(start, 10**6))
  one = learner(20)
  found = fit(one, optax.adam(0.05), batches, steps=80)
  loss = jax.jit(one.loss)
  before = loss(*one.init(jax.random.key(0), regressions(0)), regressions(999), KEY)[0]
  assert loss(found.params, found.state, regressions(999), KEY)[0] < 0.8 * before


@pytest.mark.parametrize(
  ("how", "message"),
  [
    ({"proximal_strength": 0.0}, "expected proximal_strength above 0, got 0.0"),
    ({"damping": -1.0}, "expected a damping of at least 0, got -1.0"),
    ({"cg_steps": 0}, "expected cg_steps to be a whole number of at least 1, got 0"),
    ({"steps": 0}, "expected steps to be a whole number of at least 1, got 0"),
    ({"query_norm": "none"}, "expected query_norm to be one of"),
  ],
)
def test_arguments_that_are_none_are_refused(how, message):
  with pytest.raises(ValueError, match=message):
    learner(**how)
