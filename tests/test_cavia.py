"""CAVIA: a context vector alone is adapted, from zeros, and none at all is the network itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from finite_differences import check_slope
from table_of_learners import convolution, episodes, image_episodes, regressions, tanh_layer

from metajax import gradient_steps
from metajax.compose import concat_context, film, linear, slice_head, with_head
from metajax.learners import cavia
from metajax.losses import cross_entropy, squared_error
from metajax.networks import conv_blocks

KEY, one_step = jax.random.key(1), gradient_steps(optax.sgd(0.5), 1)
plain = tanh_layer(1)


def close(first, second, tolerance=1e-4):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=1e-6), first, second)


def test_an_empty_context_is_the_network():
  """The same loss and gradient as the network trained on all queries, and the same answers whatever the support."""
  batch = regressions(0)
  learner = cavia(concat_context(plain), 0, one_step, loss=squared_error)
  joint = lambda p: squared_error(
    plain.apply(p, {}, batch.query.inputs.reshape(-1, 1), train=True)[0], batch.query.labels.reshape(-1, 1)
  )
  x = batch.query.inputs[0]
  supports = [jax.tree.map(lambda a, task=task: a[task], batch.support) for task in range(2)]

  @jax.jit
  def both():
    params, state = learner.init(jax.random.key(0), batch)
    slopes = (
      jax.value_and_grad(lambda p: learner.loss(p, state, batch, KEY)[0])(params),
      jax.value_and_grad(joint)(params),
    )
    answers = [learner.predict(params, state, support, x) for support in supports]
    return slopes, [*answers, learner.embed(params, state, x)], plain.apply(params, {}, x, train=True)[0]

  slopes, answers, expected = both()
  close(*slopes)
  for answer in answers:
    close(answer, expected)


def test_the_context_alone_is_adapted_from_zeros():
  """Against two steps written from the paper: c <- c - rate * grad_c L_support(theta, c)."""
  batch = regressions(0)
  learner = cavia(concat_context(plain), 3, gradient_steps(optax.sgd(0.5), 2), loss=squared_error)
  at = lambda theta, c, x: plain.apply(theta, {}, jnp.concatenate([x, jnp.tile(c, (len(x), 1))], 1), train=True)[0]

  def slow(theta, task):
    error = lambda c, part: squared_error(at(theta, c, part.inputs), part.labels)
    c = -0.5 * jax.grad(error)(jnp.zeros(3), task.support)
    c = c - 0.5 * jax.grad(error)(c, task.support)
    return error(c, task.query)

  @jax.jit
  def both():
    params, state = learner.init(jax.random.key(0), batch)
    found = jax.value_and_grad(lambda p: learner.loss(p, state, batch, KEY)[0])(params)
    return found, jax.value_and_grad(lambda p: jax.vmap(slow, (None, 0))(p, batch).mean())(params)

  close(*both())


def test_gradient_is_that_of_finite_differences(float64):
  as_64 = lambda tree: jax.tree.map(np.float64, tree)
  batch, learner = as_64(regressions(0)), cavia(concat_context(plain), 2, one_step, loss=squared_error)
  params, state = jax.jit(learner.init)(jax.random.key(0), batch)
  check_slope(jax.jit(jax.value_and_grad(lambda p: learner.loss(p, state, batch, KEY)[0])), as_64(params))


def test_a_context_modulates_channels():
  """`after((1 + scale) * before + shift)`; zeros change nothing."""
  before, after = conv_blocks(1, 4, pool="none", normalization="none"), conv_blocks(1, 3, normalization="none")
  network, x = film(before, after), image_episodes(0).support.inputs[0]
  context = np.float32([0.3, -1.0])

  @jax.jit
  def both():
    params, state = network.init(jax.random.key(0), x, jnp.zeros(2))
    run = lambda context: network.apply(params, state, x, context, train=True)[0]
    features = before.apply(params["before"], {}, x, train=True)[0]
    finish = lambda features: after.apply(params["after"], {}, features, train=True)[0]
    change = context @ params["modulation"]["weight"] + params["modulation"]["bias"]
    expected = finish(features), finish((1 + change[:4]) * features + change[4:])
    return (run(jnp.zeros(2)), run(context)), expected

  found, expected = both()
  close(found, expected)
  assert not np.allclose(*found)


def test_fewer_ways_than_outputs_are_the_first_ones_and_more_are_refused():
  network = with_head(film(convolution_maps, convolution), linear(3))
  learner = cavia(network, 5, one_step, init_head=slice_head)
  params, state = jax.eval_shape(learner.init, jax.random.key(0), image_episodes(0))
  two, four = (jax.tree.map(lambda x: x[0], episodes(1, (16, 16, 1), ways=ways, queries=1)) for ways in (2, 4))
  answer = functools.partial(jax.eval_shape, learner.predict, params, state)
  assert answer(two.support, two.query.inputs).shape == (2, 2)
  with pytest.raises(ValueError, match="expected at most as many ways as the head has outputs, 3, got 4"):
    answer(four.support, four.query.inputs)
  with pytest.raises(ValueError, match="2"):
    jax.eval_shape(cavia(network, 5, one_step).loss, params, state, episodes(1, (16, 16, 1), ways=2), KEY)


def test_the_context_has_the_type_of_the_parameters():
  batch = jax.tree.map(lambda x: x.astype(jnp.bfloat16), regressions(0))
  learner = cavia(concat_context(plain), 2, one_step, loss=squared_error)
  params, state = jax.eval_shape(learner.init, jax.random.key(0), batch)
  params = jax.tree.map(lambda x: x.update(dtype=jnp.bfloat16), params)
  task = jax.tree.map(lambda x: x[0], batch)
  found = jax.eval_shape(learner.predict, params, state, task.support, task.query.inputs)
  assert found.dtype == jnp.bfloat16  # 32 bits, if the context were of those


convolution_maps = conv_blocks(1, 4, downsample="stride", pool="none")


def test_a_context_below_0_and_images_for_rows_are_refused():
  for context in (-1, 2.5, True):
    with pytest.raises(ValueError, match=f"a context of at least 0 numbers, got {context}"):
      cavia(concat_context(plain), context, one_step)
  with pytest.raises(ValueError, match=r"expected inputs \[n, d\] to append a context to"):
    cavia(concat_context(plain), 2, one_step, loss=cross_entropy).init(KEY, image_episodes(0))
