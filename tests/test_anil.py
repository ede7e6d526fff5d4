"""ANIL: the head alone is adapted, on features that are computed once; with a head that is everything it is MAML."""

import chex
import jax
import numpy as np
import optax
import pytest
from table_of_learners import classifier, encoder, episodes

from metajax import Network, gradient_steps
from metajax.adapt import only
from metajax.compose import flatten, linear, with_head, zeros_for_all_ways
from metajax.learners import anil, maml

adapt = gradient_steps(optax.sgd(0.3), 3)


def value_and_gradient(learner, params, state):
  run = jax.jit(jax.value_and_grad(lambda p: learner.loss(p, state, episodes(0), jax.random.key(0))[0]))
  return run(params)


def agree(first, second, params, state):
  one, other = value_and_gradient(first, params, state), value_and_gradient(second, params, state)
  return all(np.allclose(a, b, rtol=2e-5, atol=1e-6) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def test_anil_is_maml_whose_inner_loop_has_the_head_alone_and_not_plain_maml():
  learner = anil(encoder, linear(3), adapt)
  params, state = learner.init(jax.random.key(0), episodes(0))
  assert agree(learner, maml(with_head(encoder, linear(3)), only("head", adapt)), params, state)
  assert not agree(learner, maml(with_head(encoder, linear(3)), adapt), params, state)


def test_anil_whose_head_is_everything_is_maml():
  whole, plain = anil(flatten(), classifier, adapt), maml(classifier, adapt)
  params, state = plain.init(jax.random.key(0), episodes(0))
  one = value_and_gradient(whole, {"encoder": {}, "head": params}, {"encoder": {}, "head": state})
  other = value_and_gradient(plain, params, state)
  np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
  chex.assert_trees_all_close(one[1]["head"], other[1], rtol=2e-5, atol=1e-6)
  support, query = jax.tree.map(lambda x: x[0], episodes(0))
  inputs = query.inputs
  found = whole.predict({"encoder": {}, "head": params}, {"encoder": {}, "head": state}, support, inputs)
  np.testing.assert_allclose(found, plain.predict(params, state, support, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 10])
def test_each_picture_is_embedded_once_whatever_the_number_of_steps(steps):
  rows = []

  def counted(params, state, inputs, *, train, key=None):
    rows.append(len(inputs))
    return encoder.apply(params, state, inputs, train=train)

  learner = anil(Network(encoder.init, counted), linear(3), gradient_steps(optax.sgd(0.1), steps))
  params, state = learner.init(jax.random.key(0), episodes(0))
  rows.clear()
  support, query = jax.tree.map(lambda x: x[0], episodes(0))
  jax.make_jaxpr(learner.predict)(params, state, support, query.inputs)
  assert rows == [len(support.labels), len(query.labels)]


def test_a_head_from_zeros_is_tested_at_any_number_of_ways_and_does_not_depend_on_their_order():
  learner = anil(encoder, linear(1), adapt, start=zeros_for_all_ways)
  params, state = learner.init(jax.random.key(0), episodes(0))
  for ways in (2, 5):
    support, query = jax.tree.map(lambda x: x[0], episodes(1, ways=ways))
    found = learner.predict(params, state, support, query.inputs)
    assert found.shape == (len(query.labels), ways)
    turned = learner.predict(params, state, support._replace(labels=support.labels[:, ::-1]), query.inputs)
    np.testing.assert_allclose(found, turned[:, ::-1], rtol=1e-4, atol=1e-5)


def test_a_head_from_zeros_needs_a_head_of_one_output():
  with pytest.raises(ValueError, match=r"a head of one output, such as linear\(1\), got a leaf of shape \[3\]"):
    anil(encoder, linear(3), adapt, start=zeros_for_all_ways).init(jax.random.key(0), episodes(0))


def test_a_head_of_other_ways_than_the_labels_is_refused_at_init():
  with pytest.raises(ValueError, match=r"logits \[10, 5\] for labels of 5 ways, got \[10, 3\]"):
    anil(encoder, linear(3), adapt).init(jax.random.key(0), episodes(0, ways=5))


@pytest.mark.parametrize("make", [maml, anil], ids=["maml", "anil"])
def test_what_all_ways_have_in_common_cancels_so_that_a_start_from_zeros_loses_nothing(make):
  """After several steps of the whole network too: one vector for all ways gives the same logits, whatever it is."""
  parts = (encoder, linear(1)) if make is anil else (with_head(encoder, linear(1)),)

  def repeated(params, labels):
    wide = jax.tree.map(lambda x: np.repeat(x, labels.shape[-1], -1), params.get("head", params))
    return {**params, "head": wide} if "head" in params else wide

  support, query = jax.tree.map(lambda x: x[0], episodes(0))
  found = []
  for start in (zeros_for_all_ways, repeated):
    learner = make(*parts, adapt, start=start)
    params, state = learner.init(jax.random.key(0), episodes(0))
    found.append(jax.nn.log_softmax(learner.predict(params, state, support, query.inputs)))
  np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-4)
