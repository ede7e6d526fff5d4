"""Networks from networks: every part is given its own params, state and key, and chunks change nothing but memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import Network
from metajax.compose import chunked, flatten, linear, parallel, tied, tile_head, with_head
from metajax.mesh import make_mesh, shard_batch
from metajax.networks import mlp


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def noisy(width):
  """A linear layer that counts its training passes and adds noise where a key is given."""
  plain = linear(width)

  def init(key, features):
    return plain.init(key, features)[0], {"passes": jnp.zeros((), jnp.int32)}

  def apply(params, state, features, *, train, key=None):
    outputs, _ = plain.apply(params, {}, features, train=train)
    noise = 0.0 if key is None else jax.random.normal(key, outputs.shape)
    return outputs + noise, {"passes": state["passes"] + train}

  return Network(init, apply)


def close(found, expected):
  chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


def noise(key, *shape):
  return jax.random.normal(key, shape)


def test_linear_is_a_product_and_a_bias_drawn_so_that_outputs_have_the_scale():
  params, state = jax.device_get(jax.jit(linear(400, scale=3.0).init)(jax.random.key(0), draw(0, 7, 900)))
  assert params["weight"].shape == (900, 400) and not params["bias"].any() and state == {}
  np.testing.assert_allclose(params["weight"].std(), 3 / 30, rtol=0.01)
  params["bias"] = np.arange(400, dtype=np.float32)
  outputs = jax.jit(lambda params: linear(400).apply(params, {}, draw(0, 7, 900), train=True)[0])(params)
  np.testing.assert_allclose(outputs, draw(0, 7, 900) @ params["weight"] + np.arange(400), rtol=1e-4, atol=1e-4)


def test_linear_refuses_features_that_are_not_rows():
  with pytest.raises(ValueError, match=r"expected features \[n, d\], got an array of shape \[2, 3, 4\]"):
    linear(2).init(jax.random.key(0), np.ones((2, 3, 4)))


def test_with_head_keeps_encoder_and_head_apart():
  encoder, head, inputs = noisy(4), noisy(2), draw(0, 5, 3)
  network = with_head(encoder, head)

  @jax.jit
  def run(key):
    params, state = network.init(key, inputs)
    features, _ = encoder.apply(params["encoder"], state["encoder"], inputs, train=True)
    expected = head.apply(params["head"], state["head"], features, train=True)[0]
    applied = [network.apply(params, state, inputs, train=train) for train in (True, False)]
    return params, state, expected, *applied

  params, state, expected, (outputs, after), (_, untouched) = run(jax.random.key(0))
  assert set(params) == set(state) == {"encoder", "head"}
  assert params["encoder"]["weight"].shape == (3, 4) and params["head"]["weight"].shape == (4, 2)
  close(outputs, expected)
  assert after == {"encoder": {"passes": 1}, "head": {"passes": 1}}
  assert untouched == state


def test_with_head_gives_encoder_and_head_a_key_each():
  network, inputs = with_head(noisy(4), noisy(4)), draw(0, 5, 4)
  params, state = jax.device_get(jax.jit(network.init)(jax.random.key(0), inputs))
  assert not np.array_equal(params["encoder"]["weight"], params["head"]["weight"])
  nothing = jax.tree.map(np.zeros_like, params)
  nothing["head"]["weight"] = np.eye(4, dtype=np.float32)
  apply = lambda key: network.apply(nothing, state, inputs, train=True, key=key)[0]
  close(*jax.jit(lambda key: (apply(key), sum(noise(own, 5, 4) for own in jax.random.split(key))))(jax.random.key(7)))


def test_tied_runs_one_encoder_on_every_part():
  encoder, inputs = noisy(2), draw(0, 5, 3, 4)

  @jax.jit
  def run(key):
    params, state = tied(encoder).init(key, inputs)
    parts = [encoder.apply(params, state, inputs[:, part], train=True)[0] for part in range(3)]
    return params, tied(encoder).apply(params, state, inputs, train=True), parts

  params, (outputs, after), parts = jax.device_get(run(jax.random.key(0)))
  assert params["weight"].shape == (4, 2)
  close(outputs, np.concatenate(parts, axis=1))
  assert after == {"passes": 1}


def test_beside_gives_each_named_input_its_tower_in_the_order_given():
  inputs = {"audio": draw(0, 5, 3), "video": draw(1, 5, 4)}
  towers = {"video": noisy(2), "audio": noisy(1)}
  network = parallel(**towers)

  @jax.jit
  def run(key):
    params, state = network.init(key, inputs)
    each = [towers[name].apply(params[name], state[name], inputs[name], train=True)[0] for name in ("video", "audio")]
    noised, _ = network.apply(params, state, inputs, train=True, key=key)
    video, audio = jax.random.split(key)
    drawn = noise(video, 5, 2), noise(audio, 5, 1)
    return params, network.apply(params, state, inputs, train=True), each, noised, drawn

  params, (outputs, after), each, noised, drawn = jax.device_get(run(jax.random.key(7)))
  assert {name: tower["weight"].shape for name, tower in params.items()} == {"video": (4, 2), "audio": (3, 1)}
  close(outputs, np.concatenate(each, axis=1))
  assert after == {"video": {"passes": 1}, "audio": {"passes": 1}}
  close(noised - outputs, np.concatenate(drawn, axis=1))


ROWS, WIDTH = 64, 32
encoder = mlp((WIDTH, WIDTH), 4, jnp.tanh)


def loss_of(network):
  return lambda params, inputs: jnp.sum(jnp.sin(network.apply(params, {}, inputs, train=True)[0]))


def test_chunks_have_the_values_and_gradients_of_the_whole_and_hold_less():
  inputs = draw(0, 16 * ROWS, 8)
  init = lambda key: [network.init(key, inputs)[0] for network in (chunked(encoder, ROWS), encoder)]
  params, of_whole = jax.jit(init)(jax.random.key(0))
  chex.assert_trees_all_equal(params, of_whole)
  found = {}
  for name, network in (("whole", encoder), ("chunked", chunked(encoder, ROWS))):
    compiled = jax.jit(jax.value_and_grad(loss_of(network), (0, 1))).lower(params, inputs).compile()
    found[name] = compiled(params, inputs), compiled.memory_analysis().temp_size_in_bytes
  chex.assert_trees_all_close(found["chunked"][0], found["whole"][0], rtol=1e-4, atol=1e-4)
  assert found["chunked"][1] < found["whole"][1] / 4


def test_chunks_of_a_pytree_are_those_of_each_of_its_arrays():
  product = Network(lambda key, x: ({}, {}), lambda p, s, x, train, key=None: (x["a"] * x["b"][:, :1], s))
  inputs = {"a": draw(0, 6, 3), "b": draw(1, 6, 2)}
  outputs, _ = chunked(product, 2).apply({}, {}, inputs, train=True)
  np.testing.assert_array_equal(outputs, inputs["a"] * inputs["b"][:, :1])


def test_each_row_draws_its_own_noise_whatever_the_chunks():
  add = Network(lambda key, x: ({}, {}), lambda p, s, x, train, key=None: (x + jax.random.normal(key, x.shape), s))

  @jax.jit
  def run(key):
    expected = jax.vmap(lambda row: noise(jax.random.fold_in(key, row), 1))(np.arange(6))
    apply = lambda rows: chunked(add, rows).apply({}, {}, np.zeros((6, 1), np.float32), train=True, key=key)[0]
    return expected, [apply(rows) for rows in (1, 2, 6, 64)]

  expected, found = run(jax.random.key(0))
  for one in found:
    close(one, expected)


def test_chunks_have_rows_of_every_device_and_none_moves():
  inputs = draw(0, 16 * ROWS, 8)
  network = chunked(encoder, ROWS)
  params, _ = jax.jit(network.init)(jax.random.key(0), inputs)
  apply = jax.jit(lambda params, inputs: network.apply(params, {}, inputs, train=True, key=jax.random.key(1))[0])
  expected = apply(params, inputs)
  with jax.set_mesh(make_mesh(8)):
    compiled = apply.lower(params, shard_batch(inputs)).compile()
    close(compiled(params, shard_batch(inputs)), expected)
  for kind in ("all-gather", "all-to-all", "collective-permute"):
    assert kind not in compiled.as_text()


def test_chunks_that_devices_do_not_divide_are_refused():
  params, _ = linear(2).init(jax.random.key(0), draw(0, 8, 3))
  with jax.set_mesh(make_mesh(8)), pytest.raises(ValueError, match=r"divisible by the 8 devices .* chunks of 4 rows"):
    chunked(linear(2), 4).apply(params, {}, draw(0, 8, 3), train=True)


def test_chunks_of_an_encoder_with_state_are_refused_at_init():
  with pytest.raises(ValueError, match="batch statistics of a chunk are not the batch's"):
    chunked(noisy(2), 2).init(jax.random.key(0), draw(0, 4, 3))


def test_rows_that_chunks_do_not_divide_are_refused():
  params, _ = linear(2).init(jax.random.key(0), draw(0, 4, 3))
  with pytest.raises(ValueError, match="divisible into chunks of 4 rows, got 6 rows"):
    chunked(linear(2), 4).apply(params, {}, draw(0, 6, 3), train=True)


def test_flatten_keeps_rows():
  inputs = draw(0, 5, 2, 3)
  params, state = flatten().init(jax.random.key(0), inputs)
  outputs, state = flatten().apply(params, state, inputs, train=True)
  assert params == state == {}
  np.testing.assert_array_equal(outputs, inputs.reshape(5, 6))


@pytest.mark.parametrize("ways", [2, 3, 7])
def test_a_head_s_outputs_are_repeated_for_any_number_of_ways(ways):
  network = with_head(mlp((4,), 5), linear(3))

  @jax.jit
  def run(key):
    params, state = network.init(key, draw(0, 2, 6))
    repeated = tile_head(params, np.eye(ways))
    return [network.apply(p, state, draw(1, 2, 6), train=False)[0] for p in (repeated, params)]

  found, expected = map(np.asarray, run(jax.random.key(0)))
  np.testing.assert_allclose(found, expected[:, np.arange(ways) % 3], rtol=1e-5, atol=1e-6)
