"""MAML++: rates, normalization and losses for each step, in the order that the paper gives them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from finite_differences import check_slope
from table_of_learners import convolution, convolutional, encoder, episodes, image_episodes, regressions

from metajax import Network, gradient_steps
from metajax.adapt import only
from metajax.compose import linear, tile_head, with_head
from metajax.learners import maml, maml_plus_plus
from metajax.learners.maml_plus_plus import multi_step_weights, normalizations
from metajax.losses import squared_error
from metajax.networks import audio_conv, conv4, vision_transformer
from metajax.networks.linen.transformer import Size

KEY = jax.random.key(1)
classifier = with_head(encoder, linear(3))


def bump(outputs):
  """The smallest network that is no line: a tanh of a height."""
  layer = linear(outputs)
  init = lambda key, inputs: ({**layer.init(key, inputs)[0], "height": jnp.ones(outputs)}, {})

  def apply(params, state, inputs, train, key=None):
    return params["height"] * jnp.tanh(inputs @ params["weight"] + params["bias"]), state

  return Network(init, apply)


def normalized(outputs):
  """A layer whose outputs are normalized by what is given together, of which the mean is kept."""
  layer = linear(outputs)

  def init(key, inputs):
    norm = {"scale": jnp.ones(outputs), "bias": jnp.zeros(outputs)}
    return {"layer": layer.init(key, inputs)[0], "norm": norm}, {"mean": jnp.zeros(outputs)}

  def apply(params, state, inputs, train, key=None):
    found, _ = layer.apply(params["layer"], {}, inputs, train=train)
    mean, norm = found.mean(0), params["norm"]
    found = (found - mean) * jax.lax.rsqrt(jnp.square(found - mean).mean(0) + 1e-3)
    return norm["scale"] * found + norm["bias"], {"mean": 0.9 * state["mean"] + 0.1 * mean}

  return Network(init, apply)


network = bump(1)


def as_64(tree):
  return jax.tree.map(lambda x: np.float64(x) if np.issubdtype(np.result_type(x), np.floating) else x, tree)


def close(first, second, tolerance=1e-4):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=1e-6), first, second)


def at(state, training_steps):
  return {**state, "training_steps": np.int32(training_steps)}


def started(learner, batch):
  return jax.device_get(jax.jit(learner.init)(jax.random.key(0), batch))


def value_and_grad(learner, params, state, batch):
  """To be called in a program."""
  return jax.value_and_grad(lambda p: learner.loss(p, state, batch, KEY)[0])(params)


def heights(params):
  return {name: name == "height" for name in params}


def drawn(params, spread=0.3):
  """Params of which nothing is as it began: rates and normalization differ by step."""
  random = np.random.default_rng(5)
  return jax.tree.map(lambda x: x * (1 + spread * random.uniform(-1, 1, x.shape)).astype(x.dtype), params)


@pytest.mark.parametrize("steps", [1, 3])
def test_uniform_rates_without_normalization_are_maml(steps):
  """With one step always; with more once the last loss alone counts."""
  batch, plain = episodes(0), maml(classifier, gradient_steps(optax.sgd(0.1), steps))
  ours = maml_plus_plus(classifier, steps, learning_rate=0.1, multi_step_until=10)
  params, state = started(ours, batch)

  @jax.jit
  def both(params, state):
    of_maml = value_and_grad(plain, params["network"], {"encoder": {}, "head": {}}, batch)
    return value_and_grad(ours, params, state, batch), of_maml

  (found, slope), (expected, slope_of_maml) = both(params, state if steps == 1 else at(state, 10))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  close(slope["network"], slope_of_maml)
  assert all(leaf.shape == (steps,) and np.all(leaf != 0) for leaf in jax.tree.leaves(slope["rates"]))


def test_one_step_is_maml_that_leaves_normalization_as_it_is():
  parts = ["encoder/kernel_0", "head"]
  plain = maml(convolutional, only(parts, gradient_steps(optax.sgd(0.1), 1)), encoder=convolution)
  ours = maml_plus_plus(convolutional, 1, learning_rate=0.1, encoder=convolution)
  batch = image_episodes(0)
  params, state = started(ours, batch)
  first = lambda tree: jax.tree.map(lambda x: x[0], tree)
  of_encoder = params["network"]["encoder"]
  theta = {**params["network"], "encoder": {**of_encoder, "norm_0": first(of_encoder["norm_0"])}}

  @jax.jit
  def both(params, state, theta, theta_state, batch):
    inputs = batch.query.inputs[0]
    return [
      (*learner.loss(p, s, batch, KEY), learner.embed(p, s, inputs))
      for learner, p, s in ((ours, params, state), (plain, theta, theta_state))
    ]

  (found, (after, _), of_ours), (expected, (after_maml, _), of_plain) = both(
    params, state, theta, first(state["network"]), batch
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  close(first(after["network"]), after_maml)
  close(of_ours, of_plain)


def test_loss_is_the_papers_weighted_sum_of_the_losses_after_each_step():
  """Against a loop written from the paper, with rates that differ by array and step, and heights of each step's own."""
  batch, steps = regressions(0), 3
  ours = maml_plus_plus(network, steps, learning_rate=0.05, multi_step_until=10, loss=squared_error, per_step=heights)
  params, state = started(ours, batch)
  params = drawn(params)
  error = lambda theta, part: squared_error(network.apply(theta, {}, part.inputs, train=True)[0], part.labels)

  def slow(params, weights, task):
    theta, total = params["network"], 0.0
    for i in range(steps):
      theta = {**theta, "height": params["network"]["height"][i]}
      slope, rates = jax.grad(error)(theta, task.support), params["rates"]
      theta.update({name: theta[name] - rates[name][i] * slope[name] for name in ("weight", "bias")})
      total += weights[i] * error(theta, task.query)
    return total

  @jax.jit
  def both(params, state, weights):
    expected = jax.value_and_grad(lambda p: jax.vmap(slow, (None, None, 0))(p, weights, batch).mean())(params)
    return value_and_grad(ours, params, state, batch), expected

  for training_steps, weights in {0: [1 / 3] * 3, 4: [0.2, 0.2, 0.6], 10: [0.0, 0.0, 1.0]}.items():
    close(*both(params, at(state, training_steps), np.float32(weights)))


def test_every_step_has_normalization_of_its_own():
  """Scale and shift of a step are not adapted, move that step's outputs alone, and its statistics are kept apart."""
  batch = episodes(0)
  learner = maml_plus_plus(normalized(3), 2, learning_rate=0.1, multi_step_until=9)
  params, state = started(learner, batch)
  params = drawn(params, 0.5)
  assert "norm" in params["rates"] and not jax.tree.leaves(params["rates"]["norm"])
  gradient = jax.jit(jax.grad(lambda p, s: learner.loss(p, s, batch, KEY), has_aux=True))
  run = lambda training_steps: jax.device_get(gradient(params, at(state, training_steps)))
  slope, (after, _) = run(9)
  norm, means = slope["network"]["norm"]["scale"], after["network"]["mean"]
  assert norm.shape == (2, 3) and np.any(norm[0] != 0) and np.any(norm[1] != 0)
  assert np.all(means[0] == 0) and np.any(means[1] != 0)  # the last loss alone counts, and is measured
  means = run(0)[1][0]["network"]["mean"]
  assert np.any(means[0] != 0) and np.any(means[0] != means[1])


def test_second_derivatives_count_only_after_first_order_has_ended():
  batch = regressions(0)
  make = lambda **how: maml_plus_plus(network, 2, learning_rate=0.3, multi_step_until=0, loss=squared_error, **how)
  learners = make(first_order_until=5), make(gradient="first_order"), make()
  params, state = started(learners[0], batch)
  slopes_of = jax.jit(lambda p, s: [value_and_grad(learner, p, s, batch)[1] for learner in learners])
  (before, first, _), (after, _, second) = (jax.device_get(slopes_of(params, at(state, n))) for n in (4, 5))
  close(before, first)
  close(after, second)
  assert any(np.any(np.abs(a - b) > 1e-3) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))


def test_gradient_is_that_of_finite_differences(float64):
  """Of initialization, rates and each step's own parameters: here the heights, whatever they are."""
  batch = as_64(regressions(0))
  learner = maml_plus_plus(network, 2, learning_rate=0.1, multi_step_until=3, loss=squared_error, per_step=heights)
  params, state = started(learner, batch)
  params, state = drawn(as_64(params)), at(state, 1)
  check_slope(jax.jit(lambda p: value_and_grad(learner, p, state, batch)), params)


def test_training_steps_are_counted_and_weights_move_from_all_to_the_last():
  batch = regressions(0)
  learner = maml_plus_plus(network, 3, loss=squared_error)
  params, state = started(learner, batch)
  run = jax.jit(learner.loss)
  for n in (1, 2):
    state = run(params, state, batch, KEY)[1][0]
    assert state["training_steps"] == n
  weights = jax.jit(lambda: [multi_step_weights(5, n, 100) for n in (0, 50, 99)])()
  np.testing.assert_allclose(weights[0], np.full(5, 0.2), rtol=1e-6)
  np.testing.assert_allclose(weights[1], [0.1, 0.1, 0.1, 0.1, 0.6], rtol=1e-6)
  np.testing.assert_allclose(weights[2], [0.006] * 4 + [0.976], rtol=1e-6)


def test_more_steps_at_test_time_take_the_last_ones_rates_and_other_ways_the_heads_outputs_again():
  make = lambda steps: maml_plus_plus(convolutional, steps, learning_rate=0.1, encoder=convolution, init_head=tile_head)
  params, state = started(make(2), image_episodes(0))
  params = drawn(params, 0.5)
  repeat = lambda x: np.concatenate([x, x[-1:], x[-1:]])
  of_encoder = params["network"]["encoder"]
  longer_encoder = {**of_encoder, "norm_0": jax.tree.map(repeat, of_encoder["norm_0"])}
  longer = {
    "network": {**params["network"], "encoder": longer_encoder},
    "rates": jax.tree.map(repeat, params["rates"]),
  }
  support, query = jax.tree.map(lambda x: x[0], episodes(1, (16, 16, 1), ways=5, shots=2, queries=1))
  longer_state = {**state, "network": jax.tree.map(repeat, state["network"])}

  @jax.jit
  def answers(short, long):
    four = [make(4).predict(*given, support, query.inputs) for given in (short, long)]
    return *four, make(2).predict(*short, support, query.inputs)

  found, expected, fewer = answers((params, state), (longer, longer_state))
  assert found.shape == (5, 5)
  close(found, expected)
  assert not np.allclose(found, fewer)


@pytest.mark.parametrize(
  ("how", "message"),
  [
    ({"learning_rate": 0}, "expected a learning_rate above 0, got 0"),
    ({"learning_rate": float("inf")}, "expected a learning_rate above 0, got inf"),
    ({"multi_step_until": -1}, "expected multi_step_until to be a whole number of at least 0, below 2..31, got -1"),
    ({"first_order_until": 2.5}, "expected first_order_until to be a whole number of at least 0, below 2..31, got 2.5"),
    ({"steps": 0}, "expected steps to be a whole number of at least 1, got 0"),
    ({"gradient": "second"}, "expected gradient to be one of"),
  ],
)
def test_arguments_that_are_none_are_refused(how, message):
  with pytest.raises(ValueError, match=message):
    maml_plus_plus(network, **how)


def test_normalizations_are_found_in_every_network_by_their_scale():
  image, sound = np.zeros((1, 16, 16, 1), np.float32), np.zeros((1, 16, 16), np.float32)
  found = []
  for network, inputs in (
    (conv4(4, pool="mean"), image),
    (vision_transformer(Size(8, 1, 2), 4), image),
    (audio_conv(4), sound),
  ):
    params = jax.eval_shape(network.init, jax.random.key(0), inputs)[0]
    chosen = jax.tree_util.tree_leaves_with_path(normalizations(params))
    found.append({jax.tree_util.keystr(path, simple=True, separator="/") for path, one in chosen if one})
  assert found[0] == {f"norm_{i}/{part}" for i in range(4) for part in ("scale", "bias")}
  assert "layer_0/before_attention/bias" in found[1] and "level/scale" in found[2]
  assert not any("kernel" in name for names in found for name in names)


def test_a_per_step_that_takes_all_parameters_is_refused():
  with pytest.raises(ValueError, match="expected parameters that adapt"):
    learner = maml_plus_plus(network, per_step=lambda params: jax.tree.map(lambda _: True, params))
    jax.eval_shape(learner.init, KEY, regressions(0))
