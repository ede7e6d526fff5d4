"""ANIL: the head alone is adapted, on features that are computed once; with a head that is everything it is MAML."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table_of_learners import episodes, tanh_layer

from metajax import Network, gradient_steps
from metajax.adapt import only
from metajax.compose import flatten, linear, with_head, zero_init_head
from metajax.learners import anil, maml

adapt, encoder = gradient_steps(optax.sgd(0.3), 3), tanh_layer(5)
classifier = with_head(encoder, linear(3))


def value_and_gradient(learner, params, state):
  """To be called in a program."""
  return jax.value_and_grad(lambda p: learner.loss(p, state, episodes(0), jax.random.key(0))[0])(params)


def agree(one, other):
  return all(np.allclose(a, b, rtol=2e-5, atol=1e-6) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def test_anil_is_maml_whose_inner_loop_has_the_head_alone_and_not_plain_maml():
  learner = anil(encoder, linear(3), adapt)
  mamls = [maml(with_head(encoder, linear(3)), loop) for loop in (only("head", adapt), adapt)]

  @jax.jit
  def run():
    params, state = learner.init(jax.random.key(0), episodes(0))
    return [value_and_gradient(one, params, state) for one in (learner, *mamls)]

  found, of_head, of_whole = run()
  assert agree(found, of_head)
  assert not agree(found, of_whole)


def test_anil_whose_head_is_everything_is_maml():
  whole, plain = anil(flatten(), classifier, adapt), maml(classifier, adapt)
  support, query = jax.tree.map(lambda x: x[0], episodes(0))

  @jax.jit
  def both():
    params, state = plain.init(jax.random.key(0), episodes(0))
    wrapped = {"encoder": {}, "head": params}, {"encoder": {}, "head": state}
    of = lambda learner, *at: (value_and_gradient(learner, *at), learner.predict(*at, support, query.inputs))
    return of(whole, *wrapped), of(plain, params, state)

  (one, found), (other, expected) = both()
  np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
  chex.assert_trees_all_close(one[1]["head"], other[1], rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 10])
def test_each_image_is_embedded_once_whatever_the_number_of_steps(steps):
  rows = []

  def counted(params, state, inputs, *, train, key=None):
    rows.append(len(inputs))
    return encoder.apply(params, state, inputs, train=train)

  learner = anil(Network(encoder.init, counted), linear(3), gradient_steps(optax.sgd(0.1), steps))
  params, state = jax.eval_shape(learner.init, jax.random.key(0), episodes(0))
  rows.clear()
  support, query = jax.tree.map(lambda x: x[0], episodes(0))
  jax.make_jaxpr(learner.predict)(params, state, support, query.inputs)
  assert rows == [len(support.labels), len(query.labels)]


def test_a_head_from_zeros_is_tested_at_any_number_of_ways_and_does_not_depend_on_their_order():
  learner = anil(encoder, linear(1), adapt, init_head=zero_init_head)
  tasks = {ways: jax.tree.map(lambda x: x[0], episodes(1, ways=ways)) for ways in (2, 5)}

  @jax.jit
  def run():
    at = learner.init(jax.random.key(0), episodes(0))
    of = lambda support, query: learner.predict(*at, support, query.inputs)
    return {
      ways: (of(support, query), of(support._replace(labels=support.labels[:, ::-1]), query))
      for ways, (support, query) in tasks.items()
    }

  for ways, (found, turned) in jax.device_get(run()).items():
    assert found.shape == (len(tasks[ways].query.labels), ways)
    np.testing.assert_allclose(found, turned[:, ::-1], rtol=1e-4, atol=1e-5)


def test_a_head_from_zeros_needs_a_head_of_one_output():
  with pytest.raises(ValueError, match=r"a head of one output, such as linear\(1\), got a leaf of shape \[3\]"):
    jax.eval_shape(anil(encoder, linear(3), adapt, init_head=zero_init_head).init, jax.random.key(0), episodes(0))


def test_a_head_of_other_ways_than_the_labels_is_refused_at_init():
  with pytest.raises(ValueError, match=r"logits \[10, 5\] for labels of 5 ways, got \[10, 3\]"):
    jax.eval_shape(anil(encoder, linear(3), adapt).init, jax.random.key(0), episodes(0, ways=5))


@pytest.mark.parametrize("make", [maml, anil], ids=["maml", "anil"])
def test_what_all_ways_have_in_common_cancels_so_that_a_start_from_zeros_loses_nothing(make):
  """After several steps of the whole network too: one vector for all ways gives the same logits, whatever it is."""
  parts = (encoder, linear(1)) if make is anil else (with_head(encoder, linear(1)),)

  def repeated(params, labels):
    wide = jax.tree.map(lambda x: jnp.repeat(x, labels.shape[-1], -1), params.get("head", params))
    return {**params, "head": wide} if "head" in params else wide

  support, query = jax.tree.map(lambda x: x[0], episodes(0))

  @jax.jit
  def run():
    learners = [make(*parts, adapt, init_head=start) for start in (zero_init_head, repeated)]
    started = [learner.init(jax.random.key(0), episodes(0)) for learner in learners]
    logits = [one.predict(*at, support, query.inputs) for one, at in zip(learners, started, strict=True)]
    return jax.nn.log_softmax(jnp.stack(logits))

  np.testing.assert_allclose(*run(), rtol=1e-3, atol=1e-4)
