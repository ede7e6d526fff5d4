"""Low-rank adapters: the merged kernels' outputs, the network's own gradient at full rank, and memory of adapters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from params_by_numpy import start

from metajax import Episode, Examples, gradient_steps, make_mesh
from metajax.adapt import only
from metajax.compose import linear, low_rank, merge_low_rank, with_head
from metajax.learners import maml
from metajax.networks import Size, conv4, from_linen, matmul, mlp, text_transformer, vision_transformer
from metajax.types import Network

IMAGES = np.random.default_rng(0).random((4, 8, 8, 3)).astype("f")
TOKENS = np.array([[1, 2, 19, 0], [3, 19, 0, 0]], np.int32)
NETWORKS = {
  "mlp": (mlp([7], 5), IMAGES),
  "vision transformer": (vision_transformer(Size(16, 2, 2), 4, pool="attention"), IMAGES),
  "text transformer": (text_transformer(20, Size(16, 1, 2), 4), TOKENS),
}


def of(network, inputs, rank=3, **how):
  """A network with adapters, its params with drawn `up`s, and its outputs as a function of them."""
  wrapped = low_rank(network, rank, **how)
  params, state = start(wrapped.init, inputs)
  draw = lambda x: np.random.default_rng(1).normal(0, 0.3, x.shape).astype("f")
  adapters = {path: adapter | {"up": draw(adapter["up"])} for path, adapter in params["low_rank"].items()}
  return params | {"low_rank": adapters}, jax.jit(lambda params: wrapped.apply(params, state, inputs, train=False)[0])


def merged(params, scale=1.0):
  """The network's params with `W + scale down up` in place of each kernel."""
  network = jax.tree.map(np.asarray, params["network"])
  for path, adapter in params["low_rank"].items():
    *folders, name = path.split(".")
    place = functools.reduce(lambda tree, folder: tree[folder], folders, network)
    change = scale * np.asarray(adapter["down"]) @ np.asarray(adapter["up"])
    place[name] = place[name] + change.reshape(place[name].shape)
  return network


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_merged_kernels_and_at_init_the_networks(name):
  network, inputs = NETWORKS[name]
  params, outputs = of(network, inputs, alpha=6.0)
  wanted = plain(network, merged(params, 2.0), inputs)
  np.testing.assert_allclose(outputs(params), wanted, rtol=1e-4, atol=1e-5)
  wanted, found = merged(params, 2.0), merge_low_rank(params, alpha=6.0)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6), found, wanted)
  before = params | {"low_rank": {p: a | {"up": 0 * a["up"]} for p, a in params["low_rank"].items()}}
  np.testing.assert_array_equal(outputs(before), plain(network, params["network"], inputs))


def plain(network, params, inputs):
  return jax.jit(lambda params: network.apply(params, {}, inputs, train=False)[0])(params)


def own_gradient(network, params, inputs):
  loss = lambda own: jnp.sin(network.apply(own, {}, inputs, train=False)[0]).sum()
  return jax.jit(jax.grad(loss))(params["network"])


def test_at_full_rank_the_gradient_is_the_networks_own():
  network, inputs = NETWORKS["vision transformer"]
  params, outputs = of(network, inputs, 16, names=["query"])
  assert sorted(params["low_rank"]) == [f"{part}.attention.query.kernel" for part in ("layer_0", "layer_1", "pool")]
  adapters = {path: {"down": jnp.eye(16), "up": jnp.zeros((16, 16))} for path in params["low_rank"]}
  found = jax.jit(jax.grad(lambda params: jnp.sin(outputs(params)).sum()))(params | {"low_rank": adapters})
  wanted = own_gradient(network, params, inputs)
  for path, adapter in found["low_rank"].items():
    part, *_ = path.split(".")
    kernel = wanted[part]["attention"]["query"]["kernel"].reshape(16, 16)
    np.testing.assert_allclose(adapter["up"], kernel, rtol=1e-4, atol=1e-5)
  assert not any(np.any(x) for x in jax.tree.leaves(found["network"]))  # is frozen


def test_without_freezing_the_network_learns_too():
  network, inputs = NETWORKS["mlp"]
  params, outputs = of(network, inputs, freeze=False)
  found = jax.jit(jax.grad(lambda params: jnp.sin(outputs(params)).sum()))(params)["network"]
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    found,
    own_gradient(network, {"network": merged(params)}, inputs),
  )


def test_networks_of_other_products_are_refused_or_left_alone():
  with pytest.raises(ValueError, match="expected a rank of at least 1, got 0"):
    low_rank(mlp([7], 5), 0)
  with pytest.raises(ValueError, match="expected kernels of matrix products, the network has none"):
    low_rank(conv4(8), 2).init(jax.random.key(0), jnp.ones((1, 16, 16, 1)))
  with pytest.raises(ValueError, match=r"with 'query' in the path, the network has 'Dense_0.kernel', 'Dense_1.kernel'"):
    low_rank(mlp([7], 5), 2, names=["query"]).init(jax.random.key(0), IMAGES)

  def apply(params, state, inputs, *, train, key=None):
    jitted = jax.jit(lambda x, w: matmul(x, w.T.T))  # a transposed kernel is not recognized
    return jitted(inputs @ params["a"], params["b"]), state

  network = low_rank(Network(lambda key, x: ({"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}, {}), apply), 1)
  assert list(network.init(jax.random.key(0), jnp.ones((2, 3)))[0]["low_rank"]) == ["a"]


def test_a_kernel_in_products_of_two_shapes_is_refused():
  def apply(params, state, inputs, *, train, key=None):
    return inputs @ params["w"] + (inputs[:, :2] @ params["w"].reshape(2, 8))[:, :4], state

  network = low_rank(Network(lambda key, x: ({"w": jnp.ones((4, 4))}, {}), apply), 1)
  with pytest.raises(ValueError, match=r"expected 'w' in products of one shape, got \(4, 4\) and \(2, 8\)"):
    network.init(jax.random.key(0), jnp.ones((2, 4)))


def test_it_takes_state_and_randomness_as_the_network_does():
  import flax.linen as nn

  class Module(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(6)(x))
      return nn.Dense(3)(nn.BatchNorm(not train)(x))

  network, inputs, key = from_linen(Module()), np.ones((5, 4), "f"), jax.random.key(2)
  wrapped = low_rank(network, 1)
  params, state = jax.jit(wrapped.init)(jax.random.key(0), inputs)
  found = jax.jit(functools.partial(wrapped.apply, train=True))(params, state, inputs, key=key)
  wanted = jax.jit(functools.partial(network.apply, train=True))(params["network"], state, inputs, key=key)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, wanted)


def task(rows):
  images = np.random.default_rng(0).random((2, rows, 16, 16, 1)).astype("f")
  return Examples(images, np.tile(np.eye(2, dtype="f")[np.arange(rows) % 2], (2, 1, 1)))


def meta_gradient(network, adapt, episodes):
  learner = maml(network, adapt)
  params, state = start(learner.init, episodes)
  run = lambda params: jax.grad(lambda p: learner.loss(p, state, episodes, jax.random.key(0))[0])(params)
  return run, params


ENCODERS = {"mlp": mlp([256, 128], 64), "vision transformer": vision_transformer(Size(96, 2, 2), 8, pool="mean")}
PARTS = ["encoder/low_rank", "head"]


def test_an_inner_loop_of_adapters_is_exact_in_mixed_mode():
  network = with_head(low_rank(mlp([16], 8), 2), linear(2))
  found = []
  for mode in ("mixed", "reverse"):
    adapt = only(PARTS, gradient_steps(optax.sgd(0.1), 2, gradient=mode))
    with jax.set_mesh(make_mesh(1)):
      run, params = meta_gradient(network, adapt, Episode(task(2), task(4)))
      found.append(jax.jit(run)(params)["encoder"]["low_rank"])
  assert any(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(found[0]))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), *found)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_inner_loop_of_adapters_costs_the_adapters_not_the_encoder(name):
  def temporary(network, parts, steps):
    adapt = gradient_steps(optax.sgd(0.1), steps)
    with jax.set_mesh(make_mesh(1)):
      run, params = meta_gradient(network, only(parts, adapt) if parts else adapt, Episode(task(2), task(2)))
      return jax.jit(run).lower(params).compile().memory_analysis().temp_size_in_bytes, params

  (few, params), (many, _) = (temporary(with_head(low_rank(ENCODERS[name], 2), linear(2)), PARTS, n) for n in (2, 18))
  whole_few, whole_many = (temporary(with_head(ENCODERS[name], linear(2)), None, n)[0] for n in (2, 18))
  size = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))
  adapted, encoder = size((params["encoder"]["low_rank"], params["head"])), size(params["encoder"]["network"])
  assert adapted < encoder / 15
  assert many - few <= 2 * 16 * adapted
  assert whole_many - whole_few >= 16 * encoder
  assert few <= whole_few - encoder  # no kernel's gradient has its size


def test_params_without_adapters_of_their_kernels_are_not_merged():
  network, inputs = NETWORKS["mlp"]
  params, _ = of(network, inputs)
  with pytest.raises(ValueError, match="expected params of low_rank, 'network' and 'low_rank', got"):
    merge_low_rank(params["network"])
  with pytest.raises(ValueError, match=r"expected adapters of the network's kernels, got 'Dense_9\.kernel'"):
    merge_low_rank(params | {"low_rank": {"Dense_9.kernel": params["low_rank"]["Dense_0.kernel"]}})
