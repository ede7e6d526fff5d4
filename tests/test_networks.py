"""Networks: the fast convolution is XLA's, conv4 is the paper's, and linen modules keep their promises."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from params_by_numpy import start

from metajax.networks import conv4, from_linen, mlp, resnet12
from metajax.networks.linen import convolution
from metajax.networks.linen.convolution import convolve, max_pool, native_convolve


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ("size", "kernel", "stride"),
  [((6, 5), (3, 3), 1), ((7, 6), (3, 3), 2), ((5, 5), (5, 5), 2), ((4, 7), (1, 1), 2), ((8, 8), (5, 3), 1)],
)
@pytest.mark.parametrize("way", ["slices", "products"])
def test_convolve_and_its_two_derivatives_are_those_of_xla(size, kernel, stride, way, monkeypatch):
  if way == "products":
    monkeypatch.setattr(convolution, "MANY", 0)
  with jax.enable_x64(True):
    random = np.random.default_rng(0)
    images, direction = random.normal(size=(2, 2, *size, 3))
    weights = random.normal(size=(*kernel, 3, 4 if way == "slices" else 2))

    def derivatives(run):
      loss = lambda images, weights: jnp.sum(jnp.sin(run(images, weights, stride)))
      gradients = jax.grad(loss, (0, 1))
      return jax.jit(
        lambda: (run(images, weights, stride), *jax.jvp(lambda x: gradients(x, weights), (images,), (direction,)))
      )()

    chex.assert_trees_all_close(derivatives(convolve), derivatives(native_convolve), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (2, 3)])
def test_max_pool_takes_each_block_and_leaves_out_an_odd_edge(size):
  images = draw(0, 2, *size, 3)
  found = np.asarray(jax.jit(max_pool)(images))
  assert found.shape == (2, size[0] // 2, size[1] // 2, 3)
  for (n, i, j, c), value in np.ndenumerate(found):
    assert value == images[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c].max()


def test_conv4_is_the_same_with_either_convolution():
  slices, native = (conv4(4, downsample="stride", normalization="none", convolution=c) for c in ("slices", "native"))
  images = draw(0, 3, 17, 16, 2)
  params, state = jax.jit(slices.init)(jax.random.key(0), images)
  run = jax.jit(lambda network: network.apply(params, state, images, train=True), static_argnums=0)
  chex.assert_trees_all_close(run(slices), run(native), rtol=1e-4, atol=1e-5)


def test_the_batch_norm_of_a_narrow_layer_is_that_of_its_outputs():
  slices, native = (conv4(12, downsample="stride", num_downsamples=2, convolution=c) for c in ("slices", "native"))
  images = draw(0, 5, 9, 8, 1) + 3  # far from zero
  params, state = jax.jit(native.init)(jax.random.key(0), images)
  chex.assert_trees_all_equal_shapes_and_dtypes((params, state), jax.eval_shape(slices.init, jax.random.key(0), images))
  params = jax.tree.map(lambda x: x + 0.1 * draw(1, *x.shape), params)

  def everything(network):
    def loss(params):
      outputs, after = network.apply(params, state, images, train=True)
      return jnp.sin(outputs).sum(), (outputs, after)

    gradient = lambda params: jax.grad(loss, has_aux=True)(params)[0]
    curve = jax.jvp(gradient, (params,), (jax.tree.map(jnp.ones_like, params),))
    tested = network.apply(params, loss(params)[1][1], images, train=False)[0]
    return loss(params), curve, tested

  found, wanted = (jax.jit(everything, static_argnums=0)(network) for network in (slices, native))
  scale = lambda tree: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree))
  for x, y in zip(found, wanted, strict=True):
    chex.assert_trees_all_close(x, y, rtol=1e-3, atol=1e-4 * scale(y))


@pytest.mark.parametrize("normalization", ["batch", "layer", "group", "none"])
def test_conv4_computes_in_half_precision_and_gives_what_it_gives_in_single(normalization):
  single, half = (conv4(12, normalization=normalization, num_downsamples=2, dtype=d) for d in (None, jnp.bfloat16))
  images = draw(0, 4, 9, 8, 1)
  params, state = jax.jit(half.init)(jax.random.key(0), images)
  assert {x.dtype.name for x in jax.tree.leaves((params, state))} == {"float32"}
  run = jax.jit(lambda network: network.apply(params, state, images, train=True), static_argnums=0)
  (found, after), (wanted, expected) = run(half), run(single)
  assert found.dtype == jnp.float32 and "bf16" in str(
    jax.make_jaxpr(lambda x: half.apply(params, state, x, train=True))(images)
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(after, expected)
  scale = float(jnp.abs(wanted).max())
  chex.assert_trees_all_close(found, wanted, rtol=0, atol=0.05 * scale)
  assert float(jnp.abs(found - wanted).max()) > 1e-4 * scale


def test_the_convolution_is_xlas_own_on_a_tpu(monkeypatch):
  assert [convolution.is_native(how) for how in ("auto", "slices", "native")] == [False, False, True]
  monkeypatch.setattr(convolution, "platform", lambda: "tpu")
  assert [convolution.is_native(how) for how in ("auto", "slices", "native")] == [True, False, True]


def slow_conv4(params, images, stride):
  """Four blocks of a convolution with a bias and a ReLU, and the mean over space; pixel by pixel."""
  for block in range(4):
    kernel, bias = (np.float64(params[f"{name}_{block}"]) for name in ("kernel", "bias"))
    n, height, width, _ = images.shape
    rows, columns = -(-height // stride), -(-width // stride)
    # "SAME": what is missing of a window is zeros, the odd one after the image.
    before = [max((many - 1) * stride + 3 - size, 0) // 2 for many, size in ((rows, height), (columns, width))]
    padded = np.zeros((n, height + 4, width + 4, images.shape[-1]))
    padded[:, before[0] : before[0] + height, before[1] : before[1] + width] = images
    images = np.zeros((n, rows, columns, kernel.shape[-1]))
    for i, j in np.ndindex(rows, columns):
      window = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
      images[:, i, j] = np.maximum(np.einsum("nhwc,hwco->no", window, kernel) + bias, 0)
  return images.mean((1, 2))


def test_conv4_is_four_convolutions_each_with_a_relu():
  network = conv4(5, downsample="stride", pool="mean", normalization="none")
  images = draw(0, 3, 9, 12, 2)
  params, state = jax.jit(network.init)(jax.random.key(0), images)
  params = {name: draw(i, *x.shape) / 3 for i, (name, x) in enumerate(sorted(params.items()))}
  found = jax.jit(lambda params: network.apply(params, state, images, train=True)[0])(params)
  np.testing.assert_allclose(found, slow_conv4(params, np.float64(images), 2), rtol=1e-4, atol=1e-5)


def conv4_shapes(images, **settings):
  """The shapes of conv4's params, state and features, without running it."""
  network = conv4(**settings)
  made = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(images))
  features = jax.eval_shape(lambda made: network.apply(*made, jnp.zeros(images), train=False)[0], made)
  return *made, features.shape


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_conv4_has_the_parameters_of_the_paper():
  kernels, norms = 9 * 1 * 64 + 3 * (9 * 64 * 64), 4 * 2 * 64
  params, state, _ = conv4_shapes((5, 28, 28, 1))
  assert count(params) == kernels + norms == 111_680 and count(state) == norms
  for normalization, more in (("layer", norms), ("none", 4 * 64)):
    params, state, _ = conv4_shapes((5, 28, 28, 1), normalization=normalization)
    assert count(params) == kernels + more and count(state) == 0


def test_gradient_of_max_pool_goes_whole_to_the_first_of_equal_values():
  """All of it: nothing is divided by a count of equals, which may be zero after two roundings."""
  images = np.zeros((1, 4, 4, 1), np.float32)
  images[0, 2, 3, 0] = 1
  gradient = np.asarray(jax.jit(jax.grad(lambda images: max_pool(images).sum()))(images))[0, ..., 0]
  np.testing.assert_array_equal(gradient, [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])


@pytest.mark.parametrize(
  ("images", "settings", "features"),
  [
    ((5, 28, 28, 1), {}, 64),
    ((5, 84, 84, 3), {}, 5 * 5 * 64),
    ((5, 84, 84, 3), {"filters": 32}, 5 * 5 * 32),
    ((5, 28, 28, 1), {"downsample": "stride"}, 2 * 2 * 64),
    ((5, 28, 28, 1), {"downsample": "stride", "pool": "mean"}, 64),
    ((5, 16, 47, 1), {"pool": "mean", "filters": 8}, 8),
    ((5, 16, 47, 1), {"filters": 8}, 2 * 8),
    ((5, 3, 3, 1), {"downsample": "stride", "filters": 8}, 8),
  ],
)
def test_conv4_halves_four_times(images, settings, features):
  assert conv4_shapes(images, **settings)[2] == (5, features)


@pytest.mark.parametrize(
  ("settings", "said"),
  [
    ({"downsample": "mean"}, "downsample to be one of 'stride', 'max_pool', got 'mean'"),
    ({"pool": "max"}, "pool to be one of 'mean', 'flatten', 'none', got 'max'"),
    ({"normalization": None}, "normalization to be one of 'batch', 'layer', 'group', 'none', got None"),
    ({"convolution": "fast"}, "convolution to be one of 'auto', 'slices', 'native', got 'fast'"),
  ],
)
def test_an_unknown_kind_of_conv4_is_refused_at_once(settings, said):
  with pytest.raises(ValueError, match=said):
    conv4(**settings)


@pytest.mark.parametrize(
  ("images", "said"),
  [
    ((5, 28, 28), r"\[n, height, width, channels\], got an array of shape \[5, 28, 28\]"),
    ((5, 15, 28, 1), "16 x 16 to halve 4 times, got 15 x 28"),
  ],
)
def test_images_that_conv4_cannot_halve_are_refused_at_init(images, said):
  with pytest.raises(ValueError, match=said):
    conv4_shapes(images)


class Noisy(nn.Module):
  """A module with parameters, statistics and noise."""

  @nn.compact
  def __call__(self, inputs, train):
    features = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(4)(inputs))
    return nn.Dropout(0.5, deterministic=not train)(features)


class Plain(nn.Module):
  @nn.compact
  def __call__(self, inputs, train):
    return nn.Dense(4)(inputs)


INPUTS = draw(1, 8, 3) + 5


@functools.cache
def made(module):
  """The network with its `apply` compiled, its params and state."""
  network = from_linen(module)
  run = jax.jit(network.apply, static_argnames="train")
  compiled = lambda *given, **how: jax.device_get(run(*given, **how))
  return network._replace(apply=compiled), *jax.device_get(jax.jit(network.init)(jax.random.key(0), INPUTS))


def test_linen_parameters_are_params_and_every_other_collection_is_state():
  _, params, state = made(Noisy())
  assert set(params) == {"Dense_0", "BatchNorm_0"} and set(params["BatchNorm_0"]) == {"scale", "bias"}
  assert set(state) == {"batch_stats"} and set(state["batch_stats"]["BatchNorm_0"]) == {"mean", "var"}


def test_a_module_without_statistics_has_no_state():
  network, params, state = made(Plain())
  assert state == {} and set(params) == {"Dense_0"}
  outputs, after = network.apply(params, state, INPUTS, train=True)
  assert after == {} and outputs.shape == (8, 4)


def test_only_training_changes_the_state_and_it_moves_to_the_statistics_of_the_batch():
  network, params, state = made(Noisy())
  _, after = network.apply(params, state, INPUTS, train=False, key=jax.random.key(1))
  chex.assert_trees_all_equal(after, state)
  _, after = network.apply(params, state, INPUTS, train=True)
  features = INPUTS @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
  np.testing.assert_allclose(after["batch_stats"]["BatchNorm_0"]["mean"], 0.1 * features.mean(0), rtol=1e-5)


def test_training_normalizes_by_the_batch_and_testing_by_the_state():
  network, params, state = made(Noisy())
  outputs = [network.apply(params, state, INPUTS, train=train)[0] for train in (True, False)]
  np.testing.assert_allclose(outputs[0].mean(0), 0, atol=1e-4)
  assert np.abs(outputs[1].mean(0)).max() > 0.1


def test_noise_is_drawn_only_in_training_with_a_key():
  network, params, state = made(Noisy())
  run = lambda train, key: network.apply(params, state, INPUTS, train=train, key=key)[0]
  first, second = (run(True, jax.random.key(seed)) for seed in (1, 2))
  assert np.any(first == 0) and not np.array_equal(first, second)
  np.testing.assert_array_equal(first, run(True, jax.random.key(1)))
  assert np.all(run(True, None) != 0)
  np.testing.assert_array_equal(run(False, jax.random.key(1)), run(False, None))


def test_a_module_that_is_told_otherwise_or_nothing_is_a_network_too():
  """By `deterministic`, by `use_running_average`, or of inputs alone."""
  inputs = draw(0, 4, 3)

  class Told(nn.Module):
    @nn.compact
    def __call__(self, x, *, deterministic):
      return nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(5)(x))

  for module in (Told(), nn.Dense(5), nn.Sequential([nn.Dense(5), nn.relu]), nn.BatchNorm(), nn.LayerNorm()):
    network = from_linen(module)

    @jax.jit
    def run(key, network=network):
      params, state = network.init(key, inputs)
      tested, kept = network.apply(params, state, inputs, train=False)
      without_a_key = network.apply(params, state, inputs, train=True)[0]
      return state, tested, kept, without_a_key, network.apply(params, state, inputs, train=True, key=key)

    state, tested, kept, without_a_key, (trained, after) = run(jax.random.key(0))
    chex.assert_trees_all_equal(kept, state)
    assert np.allclose(tested, trained) == (not isinstance(module, Told | nn.BatchNorm))
    assert bool(jax.tree.leaves(after)) == isinstance(module, nn.BatchNorm)
    if isinstance(module, Told):
      np.testing.assert_array_equal(without_a_key, tested)


def test_what_is_no_module_or_has_a_switch_of_another_name_is_refused():
  class Switched(nn.Module):
    @nn.compact
    def __call__(self, x, learning=False):
      return nn.Dropout(0.5, deterministic=not learning)(x)

  with pytest.raises(TypeError, match=r"Switched.__call__ to take any of the keywords train, .* or none, got learning"):
    from_linen(Switched())
  for odd, said in ((3, "a int"), (nn.Dense, "the class Dense"), (mlp((), 2), "a Network")):
    with pytest.raises(TypeError, match=f"expected a linen module, such as .*, got {said}"):
      from_linen(odd)


class Flagged(nn.Module):
  """A module that returns the flags that it is told; some with a default."""

  @nn.compact
  def __call__(self, x, is_training, deterministic=True, *, use_running_average):
    nn.BatchNorm(use_running_average=use_running_average)(x)
    return jnp.array([is_training, deterministic, use_running_average])


def test_every_flag_that_a_module_takes_is_told_and_noise_needs_a_key():
  network, params, state = made(Flagged())
  told = lambda **how: network.apply(params, state, INPUTS, **how)[0].tolist()
  assert told(train=True, key=jax.random.key(0)) == [True, False, False]
  assert told(train=True) == [True, True, False]
  assert told(train=False, key=jax.random.key(0)) == [False, True, True]


@pytest.mark.parametrize("norm", [True, False])
def test_deterministic_alone_is_false_in_training_without_a_key_where_batch_norm_may_depend_on_it(norm):
  class Told(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
      x = nn.BatchNorm(use_running_average=deterministic)(x) if norm else x
      return jnp.array(deterministic)

  network, params, state = made(Told())
  assert network.apply(params, state, INPUTS, train=True)[0] == (not norm)
  assert not network.apply(params, state, INPUTS, train=True, key=jax.random.key(0))[0]


class Attentive(nn.Module):
  """Dropout in attention, noise of another name, boxed params, a spectral norm and a counter that always counts."""

  def setup(self):
    boxed = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
    self.dense = nn.Dense(4, kernel_init=boxed)
    self.spectral = nn.SpectralNorm(nn.Dense(4))
    self.attention = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, deterministic=False)
    self.calls = self.variable("cache", "calls", lambda: jnp.zeros((), jnp.int32))

  def __call__(self, inputs, train):
    features = self.attention(self.spectral(self.dense(inputs), update_stats=train))
    self.calls.value += not self.is_initializing()
    return features, jax.random.normal(self.make_rng("noise")) if self.has_rng("params") else 0.0


def test_boxes_are_removed_every_stream_has_the_key_and_every_collection_is_state():
  network, params, state = made(Attentive())
  assert type(params["dense"]["kernel"]) is np.ndarray and set(state) == {"batch_stats", "cache"}
  run = lambda **how: network.apply(params, state, INPUTS, **how)
  (first, noise), after = run(train=True, key=jax.random.key(1))
  (second, other), _ = run(train=True, key=jax.random.key(2))
  assert not np.allclose(first, second) and noise != other
  (quiet, nothing), trained = run(train=True)
  assert nothing == 0 and not np.allclose(quiet, first)
  np.testing.assert_array_equal(quiet, run(train=True)[0][0])
  assert after["cache"]["calls"] == trained["cache"]["calls"] == run(train=False)[1]["cache"]["calls"] == 1
  change = jax.tree.map(lambda a, b: not np.array_equal(a, b), state["batch_stats"], trained["batch_stats"])
  assert any(jax.tree.leaves(change))


def test_a_module_that_draws_random_numbers_itself_is_refused_without_a_key():
  class Drawn(nn.Module):
    def __call__(self, x):
      return x + jax.random.normal(self.make_rng("noise"), x.shape)

  network = from_linen(Drawn())
  assert network.apply({}, {}, INPUTS, train=True, key=jax.random.key(0))[0].shape == INPUTS.shape
  with pytest.raises(ValueError, match=r"expected a key, because Drawn itself draws random numbers, got none: .*noise"):
    network.apply({}, {}, INPUTS, train=True)


def test_mlp_is_its_formula_on_flattened_inputs():
  network, inputs = mlp((5, 4), 2, jnp.tanh), draw(0, 6, 3, 2)
  params, state = jax.device_get(jax.jit(network.init)(jax.random.key(0), inputs))
  features = inputs.reshape(6, 6)
  for layer in range(3):
    dense = params[f"Dense_{layer}"]
    features = features @ dense["kernel"] + dense["bias"]
    features = np.tanh(features) if layer < 2 else features
  outputs, after = jax.jit(lambda params: network.apply(params, state, inputs, train=True))(params)
  assert after == {} and outputs.shape == (6, 2)
  np.testing.assert_allclose(outputs, features, rtol=1e-5, atol=1e-6)


def test_resnet12_has_the_published_number_of_parameters():
  params, _ = jax.eval_shape(resnet12().init, jax.random.key(0), jnp.zeros((1, 84, 84, 3)))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 12_424_320  # MetaOptNet's, arXiv:1904.03758


def test_resnet12_is_the_same_by_slices_and_by_xlas_own_convolution():
  images = draw(0, 3, 9, 8, 3)
  slices, native = (resnet12((3, 5), convolution=how) for how in ("slices", "native"))

  run = jax.jit(lambda *made: [network.apply(*made, images, train=True) for network in (slices, native)])
  found, expected = run(*start(slices.init, images))
  assert found[0].shape == (3, 5)
  chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: resnet12(()), r"filters of at least 1 for at least one block, got \[\]"),
    (lambda: resnet12((4, 0)), r"got \[4, 0\]"),
    (lambda: resnet12(convolution="fast"), "'auto', 'slices', 'native', got 'fast'"),
    (
      lambda: resnet12((4, 4)).init(jax.random.key(0), np.zeros((1, 3, 9, 1), np.float32)),
      r"at least 4 x 4 .*got \(3, 9\)",
    ),
  ],
)
def test_resnet12_refuses_what_it_cannot_do(make, message):
  with pytest.raises(ValueError, match=message):
    make()
