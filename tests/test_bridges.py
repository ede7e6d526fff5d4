"""Networks of other libraries: each bridge gives its library's own outputs, and all keep the promises of a Network."""

import functools
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from metajax.adapt import gradient_steps
from metajax.checkpoint import Checkpoints
from metajax.learners import maml
from metajax.mesh import mean_over_tasks
from metajax.networks import from_equinox, from_haiku, from_linen, from_nnx
from metajax.types import Episode, Examples, Network

ROWS = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32) + 5
KEY = jax.random.key(0)
NO_EQUINOX = "Equinox is not installed: pip install equinox"
NO_HAIKU = "Haiku is not installed: pip install dm-haiku"


class Bridge(NamedTuple):
  """A network of three layers, `Dense(4)`, batch norm with momentum 0.9 and dropout of one half, by one library."""

  network: Network
  without_noise: Network  # `Dense(2)` alone
  mean: tuple[str, ...]  # where the running mean lies in the state


class InLinen(nn.Module):
  @nn.compact
  def __call__(self, inputs, train):
    features = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(4)(inputs))
    return nn.Dropout(0.5, deterministic=not train)(features)


class InNNX(nnx.Module):
  def __init__(self, rngs):
    self.dense = nnx.Linear(3, 4, rngs=rngs)
    self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, inputs):
    return self.dropout(self.norm(self.dense(inputs)))


def in_linen():
  return Bridge(from_linen(InLinen()), from_linen(nn.Dense(2)), ("batch_stats", "BatchNorm_0", "mean"))


def in_nnx():
  return Bridge(from_nnx(InNNX), from_nnx(functools.partial(nnx.Linear, 3, 2)), ("norm", "mean"))


def equinox_module(eqx):
  def make(key):
    dense = eqx.nn.Linear(3, 4, key=key)
    return eqx.nn.Sequential([dense, eqx.nn.BatchNorm(4, "batch", mode="batch", momentum=0.9), eqx.nn.Dropout(0.5)])

  return make


def in_equinox():
  eqx = pytest.importorskip("equinox", reason=NO_EQUINOX)
  plain = from_equinox(functools.partial(eqx.nn.Linear, 3, 2))
  return Bridge(from_equinox(equinox_module(eqx)), plain, ("statistics", "1", "0"))


def haiku_function(hk):
  def function(inputs, is_training):
    norm = hk.BatchNorm(True, True, 0.9)
    features = norm(hk.Linear(4)(inputs), is_training)
    key = hk.maybe_next_rng_key() if is_training else None
    return features if key is None else hk.dropout(key, 0.5, features)

  return function


def in_haiku():
  hk = pytest.importorskip("haiku", reason=NO_HAIKU)
  plain = from_haiku(hk.transform(lambda inputs: hk.Linear(2)(inputs)))
  network = from_haiku(hk.transform_with_state(haiku_function(hk)))
  return Bridge(network, plain, ("batch_norm/~/mean_ema", "average"))


@functools.cache
def built(make):
  """The bridge with its `apply` compiled, and the params and state of its first network."""
  bridge = make()
  run = jax.jit(bridge.network.apply, static_argnames="train")
  network = bridge.network._replace(apply=lambda *given, **how: jax.device_get(run(*given, **how)))
  return bridge._replace(network=network), *jax.device_get(jax.jit(bridge.network.init)(KEY, ROWS))


every_bridge = pytest.mark.parametrize("make", [in_linen, in_nnx, in_equinox, in_haiku])


def at(tree, path):
  return functools.reduce(lambda part, name: part[name], path, tree)


@every_bridge
def test_params_are_floating_named_arrays_and_init_can_be_traced_without_running(make):
  bridge, params, state = built(make)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 3 * 4 + 4 + 2 * 4
  assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(params))
  assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
  chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(bridge.network.init, KEY, ROWS), (params, state))
  assert not any(leaf.weak_type for leaf in jax.tree.leaves(jax.eval_shape(bridge.network.init, KEY, ROWS)))


@every_bridge
def test_training_without_a_key_normalizes_by_the_batch_without_noise(make):
  bridge, params, state = built(make)
  outputs, after = bridge.network.apply(params, state, 2 * ROWS, train=True)  # Haiku's init saw the statistics of ROWS
  np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(outputs.std(0), 1, atol=1e-2)
  assert np.all(outputs != 0)
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
  moved = at(after, bridge.mean)
  assert np.abs(moved - at(state, bridge.mean)).max() > 0.01
  _, kept = bridge.network.apply(params, after, ROWS, train=False, key=KEY)
  chex.assert_trees_all_equal(kept, after)


@every_bridge
def test_noise_is_a_function_of_the_key_and_absent_in_evaluation(make):
  bridge, params, state = built(make)
  run = lambda train, key: bridge.network.apply(params, state, ROWS, train=train, key=key)[0]
  first, second = (run(True, jax.random.key(seed)) for seed in (1, 2))
  assert 4 < np.sum(first == 0) < 28 and not np.array_equal(first, second)
  assert len({tuple(row) for row in first == 0}) > 1  # every row has a mask of its own
  np.testing.assert_array_equal(first, run(True, jax.random.key(1)))
  np.testing.assert_array_equal(run(False, jax.random.key(1)), run(False, None))


@every_bridge
def test_each_task_has_params_of_its_own_under_vmap(make):
  network = make().without_noise
  params, state = jax.jit(network.init)(KEY, ROWS)
  many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, 3 * leaf]), params)
  run = lambda params: network.apply(params, state, ROWS, train=False)[0]
  outputs, expected = jax.jit(lambda: (jax.vmap(run)(many), run(params)))()
  np.testing.assert_allclose(outputs[2], 3 * expected, rtol=1e-5)

  def task(params, rest, rows):
    return (network.apply(params, state, rows, train=True)[0] ** 2).mean(), ((), jnp.ones(()))

  tasks = jnp.stack([ROWS, 2 * ROWS])
  mean = lambda params: mean_over_tasks(task)(params, (), tasks)[0]
  expected = lambda params: (task(params, (), ROWS)[0] + task(params, (), 2 * ROWS)[0]) / 2
  chex.assert_trees_all_close(
    *jax.jit(lambda params: [jax.grad(f)(params) for f in (mean, expected)])(params), rtol=1e-4
  )


@every_bridge
def test_maml_lowers_its_loss_through_it(make):
  bridge = make()
  learner = maml(bridge.network, gradient_steps(optax.sgd(0.1), 1))
  random = np.random.default_rng(0)
  labels = jnp.asarray(np.eye(4, dtype=np.float32)[np.tile(np.arange(8) % 4, (2, 1))])
  shown = Examples(jnp.asarray(random.normal(size=(2, 8, 3)).astype(np.float32)), labels)
  batch, optimizer = Episode(shown, shown), optax.adam(0.03)

  @jax.jit
  def first_and_last(key):
    params, state = learner.init(key, batch)

    def step(carry, key):
      params, state, moments = carry
      (loss, (state, _)), gradient = jax.value_and_grad(learner.loss, has_aux=True)(params, state, batch, key)
      change, moments = optimizer.update(gradient, moments)
      return (optax.apply_updates(params, change), state, moments), loss

    start = (params, state, optimizer.init(params))
    return jax.lax.scan(step, start, jax.random.split(key, 30))[1]

  losses = first_and_last(KEY)
  assert losses[-10:].mean() < 0.9 * losses[:5].mean()


@every_bridge
def test_params_and_state_survive_a_checkpoint(make, tmp_path):
  _, params, state = built(make)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, (params, state), {})
    _, restored, _ = checkpoints.restore(jax.tree.map(jnp.zeros_like, (params, state)))
  chex.assert_trees_all_equal(restored, (params, state))


class Tied(nnx.Module):
  """Two layers that share one kernel, in a list, and a counter that is no param."""

  def __init__(self, rngs):
    start = lambda place: nnx.initializers.constant(place / 8)  # which tells layers 2 and 10 apart
    self.layers = nnx.List([nnx.Linear(3, 3, kernel_init=start(place), rngs=rngs) for place in range(1, 12)])
    self.layers[1].kernel = self.layers[0].kernel
    self.calls = nnx.BatchStat(jnp.zeros((), jnp.int32))

  def __call__(self, inputs, *, train):
    self.calls[...] += train
    for layer in self.layers:
      inputs = layer(inputs)
    return inputs


def test_nnx_outputs_and_statistics_are_those_of_the_module():
  _, params, state = built(in_nnx)
  module = InNNX(rngs=nnx.Rngs(KEY))
  chex.assert_trees_all_equal(params, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
  module.eval()
  outputs, _ = built(in_nnx)[0].network.apply(params, state, ROWS, train=False)
  np.testing.assert_allclose(outputs, module(ROWS), rtol=1e-5, atol=1e-6)
  module.train()
  module.dropout.deterministic = True
  outputs, after = built(in_nnx)[0].network.apply(params, state, ROWS, train=True)
  np.testing.assert_allclose(outputs, module(ROWS), rtol=1e-4, atol=1e-5)
  chex.assert_trees_all_close(after, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)), rtol=1e-5)


def test_nnx_params_that_are_shared_are_one_param_and_the_rest_is_state():
  network = from_nnx(Tied)

  @jax.jit
  def run(key):
    params, state = network.init(key, ROWS)
    outputs, after = network.apply(params, state, ROWS, train=True)
    kept = network.apply(params, after, ROWS, train=False)[1]
    gradient = jax.grad(lambda params: network.apply(params, state, ROWS, train=True)[0].sum())(params)
    return (params, gradient), (outputs, Tied(nnx.Rngs(key))(ROWS, train=True)), (state, after, kept)

  (params, gradient), (outputs, expected), counts = run(KEY)
  assert [len(params["layers"][str(place)]) for place in (0, 1, 10)] == [2, 1, 2]
  chex.assert_trees_all_equal_shapes(gradient, params)
  np.testing.assert_allclose(outputs, expected, rtol=1e-5)
  assert [int(count["calls"]) for count in counts] == [0, 1, 1]


class TwoMasks(nnx.Module):
  """Two dropouts, of a stream each, and a third one that is handed the random numbers of a call."""

  def __init__(self, rngs):
    self.first, self.second = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
    self.third = nnx.Dropout(0.5)

  def __call__(self, inputs, rngs=None):
    return self.first(inputs), self.second(inputs), self.third(inputs, rngs=rngs)


def test_nnx_streams_differ_and_none_is_kept_in_the_state():
  network = from_nnx(lambda rngs: TwoMasks(rngs))
  params, state = network.init(KEY, ROWS)
  assert params == {} and state == {}
  masks = [mask == 0 for mask in network.apply(params, state, ROWS, train=True, key=KEY)[0]]
  assert all(np.any(mask) for mask in masks)
  assert all(not np.array_equal(masks[i], masks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
  for outputs in network.apply(params, state, ROWS, train=True)[0]:
    np.testing.assert_array_equal(outputs, ROWS)


def test_nnx_refuses_a_module_and_what_makes_none():
  for odd, given in ((nnx.Linear(3, 2, rngs=nnx.Rngs(0)), "a Linear"), (3, "a int"), (lambda rngs: 3, "returns a int")):
    with pytest.raises(TypeError, match=rf"expected a function that makes an nnx.Module of an nnx.Rngs, got .*{given}"):
      from_nnx(odd)


def test_equinox_outputs_and_statistics_are_those_of_the_module():
  eqx = pytest.importorskip("equinox", reason=NO_EQUINOX)
  bridge, params, state = built(in_equinox)
  module, statistics = eqx.nn.make_with_state(equinox_module(eqx))(KEY)
  np.testing.assert_array_equal(params["layers"]["0"]["weight"], module.layers[0].weight)
  run = lambda module, statistics: jax.vmap(module, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(
    ROWS, statistics
  )
  module = eqx.tree_at(lambda module: module.layers[2].inference, module, True)
  expected, statistics = run(module, statistics)
  outputs, after = bridge.network.apply(params, state, ROWS, train=True)
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
  chex.assert_trees_all_close(jax.tree.leaves(after), jax.tree.leaves(statistics), rtol=1e-5)
  expected, _ = run(eqx.nn.inference_mode(module), statistics)
  np.testing.assert_allclose(bridge.network.apply(params, after, ROWS, train=False)[0], expected, rtol=1e-4, atol=1e-5)


def test_equinox_arrays_that_are_no_floats_are_constants_and_a_switch_is_told():
  eqx = pytest.importorskip("equinox", reason=NO_EQUINOX)

  class Model(eqx.Module):
    weight: jax.Array
    order: jax.Array
    pair: eqx.nn.Shared
    act: callable = jax.nn.relu

    def __init__(self, key):
      self.weight, self.order = jax.random.normal(key, [3]), jax.random.permutation(key, 3)
      layers = [eqx.nn.Linear(3, 3, key=key), eqx.nn.Linear(3, 3, key=key)]
      self.pair = eqx.nn.Shared(layers, lambda layers: layers[1].weight, lambda layers: layers[0].weight)

    def __call__(self, row, scale, *, train):
      first, second = self.pair()
      return self.act(second(first(row * self.weight)))[self.order] * scale if train else row

  network, module, scale = from_equinox(Model), Model(KEY), jnp.arange(8.0)
  params, state = network.init(KEY, ROWS, scale)
  assert set(state) == {"constants"} and set(state["constants"]) == {"order"}
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 3 + 9 + 2 * 3
  run = jax.jit(network.apply, static_argnames="train")
  outputs, after = run(params, state, ROWS, scale, train=True)
  expected = jax.jit(jax.vmap(functools.partial(module, train=True)))(ROWS, scale)
  np.testing.assert_allclose(outputs, expected, rtol=1e-5)
  chex.assert_trees_all_equal(after, state)
  np.testing.assert_array_equal(run(params, state, ROWS, scale, train=False)[0], ROWS)


def test_equinox_refuses_a_module_another_axis_and_an_unknown_switch():
  eqx = pytest.importorskip("equinox", reason=NO_EQUINOX)

  class Switched(eqx.Module):
    def __call__(self, row, enable_dropout=False):
      return row

  with pytest.raises(TypeError, match=r"makes an eqx.Module of a key, got a Linear"):
    from_equinox(eqx.nn.Linear(3, 2, key=KEY))
  with pytest.raises(TypeError, match=r"makes an eqx.Module of a key, got one that returns a int"):
    from_equinox(lambda key: 3)
  with pytest.raises(ValueError, match="axis_name to be 'rows', got 'batch'"):
    from_equinox(equinox_module(eqx), axis_name="rows")
  with pytest.raises(TypeError, match=r"Switched.__call__ to take any of .* or none, got enable_dropout"):
    from_equinox(lambda key: Switched())


def test_haiku_outputs_and_statistics_are_those_of_the_function():
  hk = pytest.importorskip("haiku", reason=NO_HAIKU)
  bridge, params, state = built(in_haiku)
  transformed = hk.transform_with_state(haiku_function(hk))
  chex.assert_trees_all_close((params, state), transformed.init(KEY, ROWS, True), rtol=1e-5)
  for train, key in ((True, None), (True, KEY), (False, None)):
    found = bridge.network.apply(params, state, ROWS, train=train, key=key)
    expected = jax.jit(transformed.apply, static_argnums=4)(params, state, key, ROWS, train)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


def test_haiku_refuses_other_functions_and_noise_without_a_key():
  hk = pytest.importorskip("haiku", reason=NO_HAIKU)
  noisy = hk.transform(lambda rows, is_training: rows * jax.random.normal(hk.next_rng_key()) if is_training else rows)
  quiet = hk.transform(lambda rows, deterministic: rows if deterministic else hk.dropout(hk.next_rng_key(), 0.5, rows))
  network = from_haiku(noisy)
  with pytest.raises(ValueError, match=r"expected a key, because the function draws random numbers, got none"):
    network.apply({}, {}, ROWS, train=True)
  np.testing.assert_array_equal(from_haiku(quiet).apply({}, {}, ROWS, train=True)[0], ROWS)
  assert np.any(from_haiku(quiet).apply({}, {}, ROWS, train=True, key=KEY)[0] == 0)
  for odd, said in ((3, "got a int"), (hk.Linear, "got Linear"), (hk.without_apply_rng(noisy), "without_apply_rng")):
    with pytest.raises(TypeError, match=said):
      from_haiku(odd)


@pytest.mark.parametrize(
  ("make", "module", "package"), [(from_equinox, "equinox", "equinox"), (from_haiku, "haiku", "dm-haiku")]
)
def test_a_library_that_is_not_installed_is_named_with_its_package(make, module, package, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, module, None)
  with pytest.raises(ModuleNotFoundError, match=f"needs the package {package}, .*: pip install {package}$"):
    make(lambda key: None)
