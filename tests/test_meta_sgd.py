"""Meta-SGD: rates are learned with the initialization, by the true gradient, and equal ones are MAML."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from finite_differences import check_slope
from table_of_learners import episodes, regressions, tanh_layer

from metajax import fit, gradient_steps
from metajax.compose import linear, tile_head, with_head
from metajax.learners import maml, meta_sgd
from metajax.learners.meta_sgd import _as_wide
from metajax.losses import squared_error
from metajax.networks import mlp

encoder = tanh_layer(2)
network = with_head(encoder, linear(1))


def as_64(tree):
  return jax.tree.map(np.float64, tree)


def started(learner, batch):
  return jax.device_get(jax.jit(learner.init)(jax.random.key(0), batch))


@pytest.mark.parametrize("steps", [1, 3])
def test_gradients_of_initialization_and_rates_are_those_of_finite_differences(float64, steps):
  learner, batch = meta_sgd(network, steps, loss=squared_error), as_64(regressions(0))
  params, state = started(learner, batch)
  loss = lambda params: learner.loss(params, state, batch, jax.random.key(1))[0]
  check_slope(jax.jit(jax.value_and_grad(loss)), as_64(params))


def test_the_gradient_of_a_rate_is_minus_both_slopes():
  """Of one step: d loss / d alpha = - grad L_query(adapted) * grad L_support(initial), the mean over tasks."""
  batch = regressions(0)
  learner = meta_sgd(network, loss=squared_error)
  nothing = {"encoder": {}, "head": {}}
  error = lambda theta, part: squared_error(network.apply(theta, nothing, part.inputs, train=True)[0], part.labels)

  def product(params, task):
    slope = jax.grad(error)(params["network"], task.support)
    adapted = jax.tree.map(lambda x, a, g: x - a * g, params["network"], params["rates"], slope)
    return jax.tree.map(lambda g, h: -g * h, slope, jax.grad(error)(adapted, task.query))

  @jax.jit
  def both():
    params, state = learner.init(jax.random.key(0), batch)
    slope = jax.grad(lambda params: learner.loss(params, state, batch, jax.random.key(1))[0])(params)["rates"]
    return slope, jax.tree.map(lambda x: x.mean(0), jax.vmap(product, (None, 0))(params, batch))

  found, expected = both()
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), found, expected)


def test_equal_rates_are_maml():
  batch, classifier = episodes(0), with_head(encoder, linear(3))
  ours, plain = meta_sgd(classifier, 2, learning_rate=0.1), maml(classifier, gradient_steps(optax.sgd(0.1), 2))
  params, state = started(ours, batch)
  assert {float(x) for leaf in jax.tree.leaves(params["rates"]) for x in np.ravel(leaf)} == {np.float32(0.1)}
  of = lambda learner, params: jax.value_and_grad(lambda p: learner.loss(p, state, batch, jax.random.key(1))[0])(params)
  both = jax.jit(lambda p: (of(ours, p), of(plain, p["network"])))
  (found, slope), of_maml = jax.device_get(both(params))
  np.testing.assert_allclose(found, of_maml[0], rtol=1e-6)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), slope["network"], of_maml[1])
  assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(slope["rates"]))


def test_learned_rates_get_further_than_maml_whose_rate_stays():
  """From the same start and rate, on the same tasks."""
  batches = lambda start=0, shard=(0, 1): (regressions(i) for i in range(start, 10**6))
  ours = meta_sgd(network, learning_rate=0.01, loss=squared_error)
  plain = maml(network, gradient_steps(optax.sgd(0.01), 1), loss=squared_error)
  of = lambda learner: fit(learner, optax.adam(1e-2), batches, steps=150)
  loss = lambda learner, found: float(
    jax.jit(learner.loss)(found.params, found.state, regressions(999), jax.random.key(0))[0]
  )
  assert loss(ours, of(ours)) < 0.9 * loss(plain, of(plain))


def test_a_head_that_is_widened_has_the_rates_of_its_outputs_again():
  learner = meta_sgd(with_head(encoder, linear(3)), init_head=tile_head)
  params, state = started(learner, episodes(0))
  support, query = jax.tree.map(lambda x: x[0], episodes(1, ways=7, shots=2, queries=1))
  assert jax.eval_shape(learner.predict, params, state, support, query.inputs).shape == (7, 7)
  narrow = params["rates"]["head"]["bias"] * np.array([1, 2, 3], np.float32)
  wide = jax.jit(lambda narrow: _as_wide(narrow, jnp.zeros(7)))(narrow)
  np.testing.assert_array_equal(wide, narrow[[0, 1, 2, 0, 1, 2, 0]])


def test_rates_start_where_they_are_said_to():
  params, _ = started(meta_sgd(mlp((300,), 3), learning_rate=(0.2, 0.3)), episodes(0))
  rates = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params["rates"])])
  assert 0.2 <= rates.min() < 0.21 and 0.29 < rates.max() <= 0.3 and abs(rates.mean() - 0.25) < 0.01


@pytest.mark.parametrize("rate", [0, (0.2, 0.1), -0.1, (0.0, 0.1), float("nan"), [0.1, 0.2], (0.1,), None])
def test_rates_that_are_none_are_refused(rate):
  with pytest.raises(ValueError, match="a learning_rate above 0, or two of them"):
    meta_sgd(network, learning_rate=rate)
