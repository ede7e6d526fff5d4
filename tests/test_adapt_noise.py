"""Dropout in an inner loop: a mask of its own at each step, the same however the steps are differentiated."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import gradient_steps
from metajax.adapt import chain, implicit, newton
from metajax.compose import flatten, linear, with_head
from metajax.learners import anil, cavia, maml, maml_plus_plus, meta_sgd, proto_maml, reptile
from metajax.losses import squared_error
from metajax.types import Episode, Examples, Network

KEY = jax.random.key(7)
STEPS, D, TASKS = 4, 16, 2
still = gradient_steps(optax.sgd(0.0), STEPS)  # whose losses differ by their noise alone


def noisy(params, data):
  """A loss of which the gradient is a mask, whatever the params."""
  _, key = data
  return params @ jax.random.bernoulli(key, 0.5, params.shape).astype(params.dtype)


@functools.cache
def masks():
  draw = lambda step: jax.random.bernoulli(jax.random.fold_in(KEY, step), 0.5, (D,))
  return np.asarray(jax.jit(jax.vmap(draw))(np.arange(STEPS)))


@pytest.mark.parametrize(
  "how",
  [
    {"gradient": "mixed"},
    pytest.param({"gradient": "reverse", "remat": "sqrt"}, marks=pytest.mark.slow),
    {"gradient": "first_order"},
    pytest.param({"truncate": 3}, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_each_step_folds_its_number_into_the_key_of_the_data_in_every_mode(how):
  adapt = gradient_steps(optax.sgd(1.0), STEPS, trajectory=True, **how)
  _, path = jax.jit(lambda p: adapt(noisy, p, (np.ones(3), KEY)))(np.zeros(D, np.float32))
  np.testing.assert_array_equal(path, -np.cumsum(masks(), 0))
  assert len(np.unique(masks(), axis=0)) == STEPS


def test_keys_with_an_axis_of_steps_are_taken_as_they_are():
  adapt = gradient_steps(optax.sgd(1.0), STEPS, per_step=True)

  @jax.jit
  def run():
    keys = jax.random.split(KEY, STEPS)
    drawn = jax.vmap(lambda k: jax.random.bernoulli(k, 0.5, (D,)))(keys)
    return adapt(noisy, jnp.zeros(D), (np.ones((STEPS, 3)), keys))[0], drawn

  found, drawn = run()
  np.testing.assert_array_equal(found, -np.sum(drawn, 0))


def test_an_inner_loop_after_another_draws_other_noise():
  both, one = chain(still, still), still
  of = jax.jit(lambda p: [adapt(noisy, p, ((), KEY))[1] for adapt in (both, one)])
  path_of_both, path = of(np.arange(1, D + 1, dtype=np.float32))
  assert len(np.unique(path_of_both)) == 2 * STEPS and len(np.unique(path)) == STEPS


@pytest.mark.slow
def test_implicit_and_newton_draw_noise_anew_at_each_step():
  bent = lambda params, data: noisy(params, data) + jnp.sum(jnp.square(params))
  start = jnp.arange(1.0, D + 1)
  for adapt in (implicit(optax.sgd(0.0), STEPS, 1.0), newton(STEPS, learning_rate=0.0)):
    assert len(np.unique(jax.jit(lambda p: adapt(bent, p, ((), KEY))[1])(start))) == STEPS  # noqa: B023


def dropout() -> Network:
  """Drops half of the inputs, where a key is given."""

  def apply(params, state, inputs, *, train, key=None):
    kept = 1.0 if key is None else jax.random.bernoulli(key, 0.5, inputs.shape)
    return inputs * kept, state

  return Network(lambda key, inputs: ({}, {}), apply)


def tasks(ways=2):
  random = np.random.default_rng(0)
  draw = lambda n: Examples(
    random.normal(size=(TASKS, n, D)).astype(np.float32),
    np.tile(np.eye(ways, dtype=np.float32), (TASKS, n // ways, 1)),
  )
  return Episode(draw(4), draw(2))


def loss_and_metrics(learner, batch):
  """From the start, in one program."""

  def run(batch):
    params, state = learner.init(KEY, batch)
    loss, (_, metrics) = learner.loss(params, state, batch, KEY)
    return loss, metrics

  return jax.jit(run)(batch)


def of_context(inputs_to: Network) -> Network:
  """A network of inputs and a context, which does nothing."""
  init = lambda key, inputs, context: inputs_to.init(key, inputs)
  return Network(init, lambda params, state, inputs, context, **how: inputs_to.apply(params, state, inputs, **how))


def counted(loss, params, data):
  """`still`, whose path is the number of different losses."""
  params, path = still(loss, params, data)
  return params, jnp.full(STEPS, 1.0 + jnp.sum(jnp.diff(jnp.sort(path)) > 1e-6))


per_step = gradient_steps(optax.sgd(0.0), STEPS, per_step=True)
whole = with_head(dropout(), linear(2))
LEARNERS = {
  "maml": maml(whole, counted),
  "anil": anil(flatten(), whole, counted),
  "proto_maml": proto_maml(dropout(), counted),
  "cavia": cavia(of_context(whole), 3, counted),
}


@pytest.mark.parametrize("name", ["maml", *(pytest.param(n, marks=pytest.mark.slow) for n in LEARNERS if n != "maml")])
def test_learners_draw_a_mask_a_step(name):
  _, metrics = loss_and_metrics(LEARNERS[name], tasks())
  assert metrics["support_loss"] == STEPS


@pytest.mark.parametrize("minibatches", [pytest.param(None, marks=pytest.mark.slow), (STEPS, 6)])
def test_reptile_draws_a_mask_a_step(minibatches):
  """Of all examples, or of mini-batches that hold them all, the first loss and the last differ by noise alone."""
  learner = reptile(whole, still if minibatches is None else per_step, minibatches=minibatches)
  _, metrics = loss_and_metrics(learner, tasks())
  assert abs(metrics["first_loss"] - metrics["last_loss"]) > 1e-4


def slope_is_a_mask() -> Network:
  """Its outputs are the weights, of which a key drops half in the support set, where inputs are 1; queries are 0."""

  def apply(params, state, inputs, *, train, key=None):
    kept = 1.0 if key is None else jax.random.bernoulli(key, 0.5, params.shape)
    return jnp.where(inputs == 1, params * kept, params), state

  return Network(lambda key, inputs: (jnp.zeros(D), {}), apply)


@pytest.mark.parametrize(
  "make",
  [
    pytest.param(partial(meta_sgd, learning_rate=1.0), marks=pytest.mark.slow),
    partial(maml_plus_plus, learning_rate=1.0, multi_step_until=0),
  ],
)
def test_learners_with_rates_of_their_own_draw_a_mask_a_step(make):
  """A weight has moved as often as it was kept: with one mask for all steps, always or never."""
  share = lambda moved, _: jnp.mean((moved < -0.5) & (moved > 0.5 - STEPS))
  pull = lambda outputs, _: jnp.sum(outputs.mean(0))
  learner = make(slope_is_a_mask(), STEPS, gradient="first_order", loss=share, inner_loss=pull, **(
    {"per_step": lambda params: False} if make.func is maml_plus_plus else {}))  # fmt: skip
  ones, zeros = np.ones((TASKS, 2, D), np.float32), np.zeros((TASKS, 2, D), np.float32)
  batch = Episode(Examples(ones, ones), Examples(zeros, zeros))
  assert loss_and_metrics(learner, batch)[0] > 0.5


def test_an_inner_loop_without_a_key_is_given_the_support_alone():
  """So that what is learned is used without noise, and an Adapt of one's own sees Examples."""
  seen = []

  def watching(loss, params, data):
    seen.append(data)
    return params, loss(params, data)[None]

  learner, batch = maml(with_head(flatten(), linear(2)), watching, loss=squared_error), tasks()
  params, state = jax.eval_shape(learner.init, KEY, batch)
  support, query = jax.tree.map(lambda x: x[0], batch)
  seen.clear()
  jax.eval_shape(learner.predict, params, state, support, query.inputs)
  assert len(seen) == 1 and isinstance(seen[0], Examples)
