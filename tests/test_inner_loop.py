"""Policies of batch norm in episodes: what a query is normalized with, and what its answer depends on."""

import jax
import numpy as np
import optax
import pytest
from table_of_learners import LEARNERS, convolution, episodes, image_episodes, labeled

from metajax import Network, gradient_steps
from metajax.compose import linear, with_head
from metajax.learners import maml
from metajax.learners._adaptation import query_pass, statistics_of_pass
from metajax.networks import from_linen
from metajax.networks.linen.conv4 import Blocks

SUPPORT = [name for name in LEARNERS if "of the support" in name]


def test_the_table_holds_every_learner_with_a_policy():
  assert {name.split(",")[0] for name in SUPPORT} == {"maml", "anil", "r2d2"}


def answers(*learners):
  """Logits for a task, and for one of which all queries but the first two are others, of each learner; the params and
  state are those of the first."""
  support, query = jax.tree.map(lambda x: x[0], image_episodes(0))
  changed = np.concatenate([query.inputs[:2], 5 + query.inputs[2:] ** 2])

  @jax.jit
  def run(of_queries):
    at = learners[0].init(jax.random.key(0), image_episodes(0))
    return [[learner.predict(*at, support, inputs) for inputs in of_queries] for learner in learners]

  return jax.device_get(run((query.inputs, changed)))


@pytest.mark.parametrize("name", SUPPORT)
def test_under_support_a_query_does_not_depend_on_the_other_queries(name):
  ((first, second),) = answers(LEARNERS[name].learner)
  np.testing.assert_allclose(first[:2], second[:2], rtol=1e-5, atol=1e-6)
  assert not np.allclose(first[2:], second[2:], atol=1e-3)


def test_under_transductive_it_does():
  ((first, second),) = answers(LEARNERS["maml, batch norm"].learner)
  assert not np.allclose(first[:2], second[:2], atol=1e-3)


@pytest.mark.parametrize("normalization", ["layer", "group", "none"])
def test_networks_without_batch_statistics_answer_each_query_alone_under_any_policy(normalization):
  network = with_head(from_linen(Blocks(1, 4, "stride", "mean", 1, normalization, "slices")), linear(3))
  adapt = lambda loss, params, data: (params, loss(params, data)[None])
  found = answers(*(maml(network, adapt, query_norm=query_norm) for query_norm in ("transductive", "support")))
  for first, second in found:
    np.testing.assert_allclose(first[:2], second[:2], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_statistics_of_a_pass_are_those_of_its_batch_whatever_was_there_before(momentum):
  def apply(params, state, inputs, *, train, key=None):
    mix = lambda old, new: momentum * old + (1 - momentum) * new
    after = {
      "mean": mix(state["mean"], inputs.mean(0)),
      "var": mix(state["var"], inputs.var(0)),
      "count": state["count"] + 1,
    }
    return inputs, after

  inputs = np.random.default_rng(0).normal(3, 2, (7, 4)).astype(np.float32)
  state = {"mean": np.full(4, 100.0, np.float32), "var": np.full(4, 50.0, np.float32), "count": 3}
  found = jax.jit(lambda state: statistics_of_pass(Network(None, apply), {}, state, inputs))(state)
  np.testing.assert_allclose(found["mean"], inputs.mean(0), rtol=1e-5)
  np.testing.assert_allclose(found["var"], inputs.var(0), rtol=1e-5)
  assert found["count"] == 3


def test_a_state_that_a_pass_leaves_alone_stays():
  network = Network(None, lambda params, state, inputs, *, train, key=None: (inputs, state))
  found = jax.jit(lambda state: statistics_of_pass(network, {}, state, np.ones((2, 3))))({"table": np.arange(3.0)})
  np.testing.assert_array_equal(found["table"], np.arange(3.0))


def test_queries_that_are_the_support_are_answered_alike_under_both_policies():
  inputs = image_episodes(0).support.inputs[0]

  @jax.jit
  def both():
    params, state = convolution.init(jax.random.key(0), inputs)
    return [
      query_pass(convolution, query_norm)(params, state, inputs, inputs, None)
      for query_norm in ("transductive", "support")
    ]

  own, support = both()
  np.testing.assert_allclose(own[0], support[0], rtol=1e-4, atol=1e-5)
  for first, second in zip(*map(jax.tree.leaves, (own[1], support[1])), strict=True):
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_an_adapt_that_gives_a_trajectory_is_refused_by_learners():
  learner = maml(linear(3), gradient_steps(optax.sgd(0.1), 2, trajectory=True))
  params, state = jax.eval_shape(learner.init, jax.random.key(0), episodes(0))
  with pytest.raises(ValueError, match="whose path is the loss at each step, got a trajectory"):
    jax.eval_shape(learner.loss, params, state, episodes(0), jax.random.key(0))


def test_a_batch_of_the_wrong_kind_is_refused_by_name():
  with pytest.raises(ValueError, match="a batch of Examples, got one of type Episode"):
    LEARNERS["supervised"].learner.init(jax.random.key(0), episodes(0))
  with pytest.raises(ValueError, match="a batch of Episodes, got one of type Examples"):
    LEARNERS["prototypical"].learner.init(jax.random.key(0), labeled(0))


def test_an_unknown_policy_is_refused():
  with pytest.raises(ValueError, match="query_norm to be one of 'transductive', 'support', got 'batch'"):
    maml(linear(3), lambda *a: None, query_norm="batch")
