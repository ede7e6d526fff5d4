"""The layers of transformers: a scan and rematerialization compute what the loop computes, in less time and memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.networks import Size, decoder, text_transformer, vision_transformer
from metajax.networks.linen.layers import Remat

SIZE = Size(16, 3, 2)
IMAGES = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
TOKENS = np.array([[1, 4, 2, 8], [3, 3, 8, 0]])
NETWORKS = {
  "image": (functools.partial(vision_transformer, SIZE, 4), IMAGES),
  "text": (functools.partial(text_transformer, 9, SIZE, 6), TOKENS),
  "decoder": (functools.partial(decoder, 9, SIZE, 6), TOKENS),
}


def value_and_gradient(network, params, inputs, key=None):
  def loss(params):
    outputs, _ = network.apply(params, {}, inputs, train=True, key=key)
    return sum(jnp.sin(x.astype(jnp.float32)).sum() for x in jax.tree.leaves(outputs))

  return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_scan_and_rematerialization_compute_what_the_loop_computes(name):
  make, inputs = NETWORKS[name]
  params, _ = make().init(jax.random.key(0), inputs)
  expected = value_and_gradient(make(), params, inputs)
  for how in ({"scan": True}, {"remat": "full"}, {"remat": "dots"}):
    found = value_and_gradient(make(**how), params, inputs)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=5e-5), found, expected)


def test_dropout_draws_for_each_layer():
  make = functools.partial(vision_transformer, SIZE, 4, dropout=0.5, scan=True)
  params, _ = make().init(jax.random.key(0), IMAGES)
  params = jax.tree.map(jnp.ones_like, params) | {"positions": params["positions"]}
  keys = (jax.random.key(1), jax.random.key(1), None)
  noisy, same, quiet = (value_and_gradient(make(), params, IMAGES, key) for key in keys)
  assert noisy[0] == same[0] and noisy[0] != quiet[0]
  first, second = (noisy[1][f"layer_{i}"]["outputs"]["bias"] for i in range(2))
  assert not np.allclose(first, second)


def test_rematerialized_layers_take_less_memory_each():
  images, taken = np.zeros((32, 16, 16, 3), np.float32), {}
  for how in ({}, {"scan": True}, {"scan": True, "remat": "dots"}, {"scan": True, "remat": "full"}):
    network = vision_transformer(Size(32, 8, 2), 2, **how)
    params = jax.eval_shape(network.init, jax.random.key(0), images)[0]

    def loss(params, network=network):
      return network.apply(params, {}, images, train=True)[0].sum()

    taken[str(how)] = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis().temp_size_in_bytes
  loop, scan, dots, full = taken.values()
  assert full < 0.6 * dots and dots < 0.5 * loop and scan == dots, taken


def test_an_unknown_rematerialization_is_refused():
  with pytest.raises(ValueError, match="remat to be one of 'none', 'dots', 'full', got 'all'"):
    vision_transformer(SIZE, 4, remat="all")
  assert set(Remat.__args__) == {"none", "dots", "full"}
