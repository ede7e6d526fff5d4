"""CAVIA: a context vector alone is adapted, from zeros, and none at all is the network itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from table_of_learners import convolution, episodes, pictures, regressions

from metajax import gradient_steps
from metajax.compose import concatenated, first_ways, linear, modulated, with_head
from metajax.learners import cavia
from metajax.losses import cross_entropy, squared_error
from metajax.networks import conv_blocks, mlp

KEY, one_step = jax.random.key(1), gradient_steps(optax.sgd(0.5), 1)
plain = mlp((7,), 1, jnp.tanh)


def close(first, second, tolerance=1e-4):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=1e-6), first, second)


def test_an_empty_context_is_the_network():
  """The same loss and gradient as the network trained on all queries, and the same answers whatever the support."""
  batch = regressions(0)
  learner = cavia(concatenated(plain), 0, one_step, loss=squared_error)
  params, state = learner.init(jax.random.key(0), batch)
  joint = lambda p: squared_error(
    plain.apply(p, {}, batch.query.inputs.reshape(-1, 1), train=True)[0], batch.query.labels.reshape(-1, 1)
  )
  found = jax.jit(jax.value_and_grad(lambda p: learner.loss(p, state, batch, KEY)[0]))(params)
  close(found, jax.jit(jax.value_and_grad(joint))(params))
  x = batch.query.inputs[0]
  for task in range(2):
    support = jax.tree.map(lambda a: a[task], batch.support)  # noqa: B023
    close(learner.predict(params, state, support, x), plain.apply(params, {}, x, train=True)[0])
  close(learner.embed(params, state, x), plain.apply(params, {}, x, train=True)[0])


def test_the_context_alone_is_adapted_from_zeros():
  """Against two steps written from the paper: c <- c - rate * grad_c L_support(theta, c)."""
  batch = regressions(0)
  learner = cavia(concatenated(plain), 3, gradient_steps(optax.sgd(0.5), 2), loss=squared_error)
  params, state = learner.init(jax.random.key(0), batch)
  at = lambda theta, c, x: plain.apply(theta, {}, jnp.concatenate([x, jnp.tile(c, (len(x), 1))], 1), train=True)[0]

  def slow(theta, task):
    error = lambda c, part: squared_error(at(theta, c, part.inputs), part.labels)
    c = -0.5 * jax.grad(error)(jnp.zeros(3), task.support)
    c = c - 0.5 * jax.grad(error)(c, task.support)
    return error(c, task.query)

  found = jax.jit(jax.value_and_grad(lambda p: learner.loss(p, state, batch, KEY)[0]))(params)
  close(found, jax.jit(jax.value_and_grad(lambda p: jax.vmap(slow, (None, 0))(p, batch).mean()))(params))


def test_gradient_is_that_of_finite_differences(float64):
  as_64 = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, float), tree)
  batch, learner = as_64(regressions(0)), cavia(concatenated(plain), 2, one_step, loss=squared_error)
  params, state = learner.init(jax.random.key(0), batch)
  check_grads(jax.jit(lambda p: learner.loss(p, state, batch, KEY)[0]), (as_64(params),), 1, ["rev"])


def test_a_context_modulates_channels():
  """`after((1 + scale) * before + shift)`; zeros change nothing."""
  before, after = conv_blocks(1, 4, pool="none", normalisation="none"), conv_blocks(1, 3, normalisation="none")
  network, x = modulated(before, after), pictures(0).support.inputs[0]
  params, state = network.init(jax.random.key(0), x, jnp.zeros(2))
  run = lambda context: network.apply(params, state, x, context, train=True)[0]
  features = before.apply(params["before"], {}, x, train=True)[0]
  finish = lambda features: after.apply(params["after"], {}, features, train=True)[0]
  close(run(jnp.zeros(2)), finish(features))
  context = jnp.array([0.3, -1.0])
  change = context @ params["modulation"]["weight"] + params["modulation"]["bias"]
  close(run(context), finish((1 + change[:4]) * features + change[4:]))
  assert not np.allclose(run(context), run(jnp.zeros(2)))


def test_fewer_ways_than_outputs_are_the_first_ones_and_more_are_refused():
  network = with_head(modulated(convolution_maps, convolution), linear(3))
  learner = cavia(network, 5, one_step, start=first_ways)
  params, state = learner.init(jax.random.key(0), pictures(0))
  two, four = (jax.tree.map(lambda x: x[0], episodes(1, (16, 16, 1), ways=ways, queries=1)) for ways in (2, 4))
  assert learner.predict(params, state, two.support, two.query.inputs).shape == (2, 2)
  with pytest.raises(ValueError, match="expected at most as many ways as the head has outputs, 3, got 4"):
    learner.predict(params, state, four.support, four.query.inputs)
  with pytest.raises(ValueError, match="2"):
    jax.eval_shape(cavia(network, 5, one_step).loss, params, state, episodes(1, (16, 16, 1), ways=2), KEY)


def test_the_context_has_the_type_of_the_parameters():
  batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), regressions(0))
  learner = cavia(concatenated(plain), 2, one_step, loss=squared_error)
  params, state = learner.init(jax.random.key(0), batch)
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params)
  task = jax.tree.map(lambda x: x[0], batch)
  found = jax.eval_shape(learner.predict, params, state, task.support, task.query.inputs)
  assert found.dtype == jnp.bfloat16  # 32 bits, if the context were of those


convolution_maps = conv_blocks(1, 4, downsample="stride", pool="none")


def test_a_context_below_0_and_pictures_for_rows_are_refused():
  for context in (-1, 2.5, True):
    with pytest.raises(ValueError, match=f"a context of at least 0 numbers, got {context}"):
      cavia(concatenated(plain), context, one_step)
  with pytest.raises(ValueError, match=r"expected inputs \[n, d\] to append a context to"):
    cavia(concatenated(plain), 2, one_step, loss=cross_entropy).init(KEY, pictures(0))
