"""MAML++: rates, normalisation and losses for each step, in the order that the paper gives them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from table_of_learners import convolution, convolutional, encoder, episodes, pictures, regressions

from metajax import gradient_steps
from metajax.adapt import only
from metajax.compose import linear, repeated_for_all_ways, with_head
from metajax.learners import maml, maml_plus_plus
from metajax.learners.maml_plus_plus import multi_step_weights, normalisations
from metajax.losses import squared_error
from metajax.networks import audio_conv, conv4, mlp, vision_transformer
from metajax.networks.transformer import Size

KEY = jax.random.key(1)
network, classifier = mlp((7,), 1, jnp.tanh), with_head(encoder, linear(3))


def as_64(tree):
  return jax.tree.map(lambda x: jnp.asarray(x, float) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x, tree)


def close(first, second, tolerance=1e-4):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=1e-6), first, second)


def at(state, training_steps):
  return {**state, "training_steps": jnp.int32(training_steps)}


def value_and_grad(learner, params, state, batch):
  return jax.jit(jax.value_and_grad(lambda p: learner.loss(p, state, batch, KEY)[0]))(params)


def first_layer(params):
  return jax.tree_util.tree_map_with_path(lambda path, _: "_0" in str(path), params)


def drawn(params, spread=0.3):
  """Params of which nothing is as it began: rates and normalisation differ by step."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(5), len(leaves))
  noise = lambda k, x: x * (1 + spread * jax.random.uniform(k, x.shape, x.dtype, -1, 1))
  return structure.unflatten([noise(k, x) for k, x in zip(keys, leaves, strict=True)])


@pytest.mark.parametrize("steps", [1, 3])
def test_uniform_rates_without_normalisation_are_maml(steps):
  """With one step always; with more once the last loss alone counts."""
  batch, plain = episodes(0), maml(classifier, gradient_steps(optax.sgd(0.1), steps))
  ours = maml_plus_plus(classifier, steps, rate=0.1, multi_step_until=10)
  params, state = ours.init(jax.random.key(0), batch)
  found, slope = value_and_grad(ours, params, state if steps == 1 else at(state, 10), batch)
  expected, slope_of_maml = value_and_grad(plain, params["network"], {"encoder": {}, "head": {}}, batch)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  close(slope["network"], slope_of_maml)
  assert all(leaf.shape == (steps,) and np.all(leaf != 0) for leaf in jax.tree.leaves(slope["rates"]))


def test_one_step_is_maml_that_leaves_normalisation_as_it_is():
  parts = ["encoder/kernel_0", "head"]
  plain = maml(convolutional, only(parts, gradient_steps(optax.sgd(0.1), 1)), encoder=convolution)
  ours = maml_plus_plus(convolutional, 1, rate=0.1, encoder=convolution)
  batch = pictures(0)
  params, state = ours.init(jax.random.key(0), batch)
  first = lambda tree: jax.tree.map(lambda x: x[0], tree)
  of_encoder = params["network"]["encoder"]
  theta = {**params["network"], "encoder": {**of_encoder, "norm_0": first(of_encoder["norm_0"])}}
  found, (after, _) = ours.loss(params, state, batch, KEY)
  expected, (after_maml, _) = plain.loss(theta, first(state["network"]), batch, KEY)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  close(first(after["network"]), after_maml)
  inputs = batch.query.inputs[0]
  close(ours.embed(params, state, inputs), plain.embed(theta, first(state["network"]), inputs))


def test_loss_is_the_papers_weighted_sum_of_the_losses_after_each_step():
  """Against a loop written from the paper, with rates that differ by array and step."""
  batch, steps = regressions(0), 3
  ours = maml_plus_plus(network, steps, rate=0.05, multi_step_until=10, loss=squared_error)
  params, state = ours.init(jax.random.key(0), batch)
  params = drawn(params)
  error = lambda theta, part: squared_error(network.apply(theta, {}, part.inputs, train=True)[0], part.labels)

  def slow(params, weights, task):
    theta, total = params["network"], 0.0
    for i in range(steps):
      slope = jax.grad(error)(theta, task.support)
      theta = jax.tree.map(lambda x, a, g: x - a[i] * g, theta, params["rates"], slope)  # noqa: B023
      total += weights[i] * error(theta, task.query)
    return total

  expected = jax.jit(jax.value_and_grad(lambda p, w: jax.vmap(slow, (None, None, 0))(p, w, batch).mean()))
  found = jax.jit(jax.value_and_grad(lambda p, s: ours.loss(p, s, batch, KEY)[0]))
  for training_steps, weights in {0: [1 / 3] * 3, 4: [0.2, 0.2, 0.6], 10: [0.0, 0.0, 1.0]}.items():
    close(found(params, at(state, training_steps)), expected(params, jnp.array(weights)))


def test_every_step_has_normalisation_of_its_own():
  """Scale and shift of a step are not adapted, move that step's outputs alone, and its statistics are kept apart."""
  batch = pictures(0)
  learner = maml_plus_plus(convolutional, 2, rate=0.1, multi_step_until=0, encoder=convolution)
  params, state = learner.init(jax.random.key(0), batch)
  params = drawn(params, 0.5)
  _, slope = value_and_grad(learner, params, state, batch)
  norm = slope["network"]["encoder"]["norm_0"]["scale"]
  assert norm.shape == (2, 4) and np.any(norm[0] != 0) and np.any(norm[1] != 0)
  assert "norm_0" in params["rates"]["encoder"] and not jax.tree.leaves(params["rates"]["encoder"]["norm_0"])
  _, (after, _) = learner.loss(params, state, batch, KEY)
  means = after["network"]["encoder"]["batch_stats"]["norm_0"]["mean"]
  assert np.all(means[0] == 0) and np.any(means[1] != 0)  # the last loss alone counts, and is measured
  many = maml_plus_plus(convolutional, 2, rate=0.1, multi_step_until=9, encoder=convolution)
  means = many.loss(params, state, batch, KEY)[1][0]["network"]["encoder"]["batch_stats"]["norm_0"]["mean"]
  assert np.any(means[0] != 0) and np.any(means[0] != means[1])


def test_second_derivatives_count_only_after_first_order_has_ended():
  batch = regressions(0)
  make = lambda **how: maml_plus_plus(network, 2, rate=0.3, multi_step_until=0, loss=squared_error, **how)
  both, first, second = make(first_order_until=5), make(gradient="first_order"), make()
  params, state = both.init(jax.random.key(0), batch)
  slopes = {n: value_and_grad(both, params, at(state, n), batch)[1] for n in (4, 5)}
  close(slopes[4], value_and_grad(first, params, state, batch)[1])
  close(slopes[5], value_and_grad(second, params, state, batch)[1])
  assert any(np.any(np.abs(a - b) > 1e-3) for a, b in zip(*map(jax.tree.leaves, slopes.values()), strict=True))


def test_gradient_is_that_of_finite_differences(float64):
  """Of initialisation, rates and each step's own parameters: here those of the first layer, whatever they are."""
  batch = as_64(regressions(0))
  learner = maml_plus_plus(network, 2, rate=0.1, multi_step_until=3, loss=squared_error, per_step=first_layer)
  params, state = learner.init(jax.random.key(0), batch)
  state = at(state, 1)
  loss = lambda params: learner.loss(params, state, batch, KEY)[0]
  check_grads(jax.jit(loss), (drawn(as_64(params)),), 1, ["rev"])


def test_training_steps_are_counted_and_weights_move_from_all_to_the_last():
  batch = regressions(0)
  learner = maml_plus_plus(network, 3, loss=squared_error)
  params, state = learner.init(jax.random.key(0), batch)
  for n in (1, 2):
    state = learner.loss(params, state, batch, KEY)[1][0]
    assert state["training_steps"] == n
  np.testing.assert_allclose(multi_step_weights(5, 0, 100), np.full(5, 0.2), rtol=1e-6)
  np.testing.assert_allclose(multi_step_weights(5, 50, 100), [0.1, 0.1, 0.1, 0.1, 0.6], rtol=1e-6)
  np.testing.assert_allclose(multi_step_weights(5, 99, 100), [0.006] * 4 + [0.976], rtol=1e-6)


def test_more_steps_at_test_time_take_the_last_ones_rates_and_other_ways_the_heads_outputs_again():
  make = lambda steps: maml_plus_plus(convolutional, steps, rate=0.1, encoder=convolution, start=repeated_for_all_ways)
  params, state = make(2).init(jax.random.key(0), pictures(0))
  params = drawn(params, 0.5)
  repeat = lambda x: jnp.concatenate([x, x[-1:], x[-1:]])
  of_encoder = params["network"]["encoder"]
  longer_encoder = {**of_encoder, "norm_0": jax.tree.map(repeat, of_encoder["norm_0"])}
  longer = {
    "network": {**params["network"], "encoder": longer_encoder},
    "rates": jax.tree.map(repeat, params["rates"]),
  }
  support, query = jax.tree.map(lambda x: x[0], episodes(1, (16, 16, 1), ways=5, shots=2, queries=1))
  longer_state = {**state, "network": jax.tree.map(repeat, state["network"])}
  found = make(4).predict(params, state, support, query.inputs)
  assert found.shape == (5, 5)
  close(found, make(4).predict(longer, longer_state, support, query.inputs))
  assert not np.allclose(found, make(2).predict(params, state, support, query.inputs))


@pytest.mark.parametrize(
  ("how", "message"),
  [
    ({"rate": 0}, "expected a rate above 0, got 0"),
    ({"rate": float("inf")}, "expected a rate above 0, got inf"),
    ({"multi_step_until": -1}, "expected multi_step_until to be a whole number of at least 0, below 2..31, got -1"),
    ({"first_order_until": 2.5}, "expected first_order_until to be a whole number of at least 0, below 2..31, got 2.5"),
    ({"steps": 0}, "expected steps to be a whole number of at least 1, got 0"),
    ({"gradient": "second"}, "expected gradient to be one of"),
  ],
)
def test_arguments_that_are_none_are_refused(how, message):
  with pytest.raises(ValueError, match=message):
    maml_plus_plus(network, **how)


def test_normalisations_are_found_in_every_network_by_their_scale():
  picture, sound = jnp.zeros((1, 16, 16, 1)), jnp.zeros((1, 16, 16))
  found = []
  for network, inputs in (
    (conv4(4, pool="mean"), picture),
    (vision_transformer(Size(8, 1, 2), 4), picture),
    (audio_conv(4), sound),
  ):
    params = jax.eval_shape(network.init, jax.random.key(0), inputs)[0]
    chosen = jax.tree_util.tree_leaves_with_path(normalisations(params))
    found.append({jax.tree_util.keystr(path, simple=True, separator="/") for path, one in chosen if one})
  assert found[0] == {f"norm_{i}/{part}" for i in range(4) for part in ("scale", "bias")}
  assert "layer_0/before_attention/bias" in found[1] and "level/scale" in found[2]
  assert not any("kernel" in name for names in found for name in names)


def test_a_per_step_that_takes_all_parameters_is_refused():
  with pytest.raises(ValueError, match="expected parameters that adapt"):
    maml_plus_plus(classifier, per_step=lambda params: jax.tree.map(lambda _: True, params)).init(
      jax.random.key(0), episodes(0)
    )
