"""Residual networks and vision transformers: the published parameters and products, in either precision."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from params_by_numpy import start

from metajax.compose import linear, with_head
from metajax.networks import projection_head, resnet, vision_transformer
from metajax.networks.linen.convolution import convolve
from metajax.networks.linen.transformer import Size
from metajax.networks.linen.vision_transformer import resized_positions

PUBLISHED = {  # parameters with a head of 1,000 ways, and billions of multiplications and additions at 224 x 224
  "resnet 18": (resnet(18), 11_689_512, 1.8),
  "resnet 34": (resnet(34), 21_797_672, 3.6),
  "resnet 50": (resnet(50), 25_557_032, 4.1),
  "resnet 101": (resnet(101), 44_549_160, 7.8),
  "ViT-Ti/16": (vision_transformer("Ti"), 5_717_416, 1.3),
  "ViT-S/16": (vision_transformer("S"), 22_050_664, 4.6),
  "ViT-B/16": (vision_transformer("B"), 86_567_656, 17.6),
  "ViT-B/32": (vision_transformer("B", 32), 88_224_232, 4.4),
  "ViT-L/16": (vision_transformer("L"), 304_326_632, 61.6),
}


def size(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_arithmetic_are_the_published_ones(name):
  network, parameters, products = PUBLISHED[name]
  classifier = with_head(network, linear(1000))
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  params, state = jax.eval_shape(classifier.init, jax.random.key(0), image)
  assert size(params) == parameters
  run = jax.jit(lambda params, state, x: classifier.apply(params, state, x, train=False)[0])
  # Products with the zeros around an image are counted in the published figures and not in XLA's.
  assert run.lower(params, state, image).cost_analysis()["flops"] / 2e9 == pytest.approx(products, rel=0.08)


@pytest.mark.parametrize(("width", "millions"), [(1, 24), (2, 94), (4, 375)])
def test_wide_encoders_are_those_of_simclr(width, millions):
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  params, _ = jax.eval_shape(resnet(50, width=width).init, jax.random.key(0), image)
  assert round(size(params) / 1e6) == millions


SMALL = {
  "resnet": lambda dtype: resnet(10, width=1 / 16, stem="cifar", dtype=dtype),
  "transformer": lambda dtype: vision_transformer(Size(16, 1, 2), 4, dtype=dtype),
  "transformer, mean": lambda dtype: vision_transformer(Size(16, 1, 2), 4, pool="mean", dtype=dtype),
}


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_computes_the_same_roughly_and_keeps_float32_params(name):
  images = np.random.default_rng(0).random((4, 16, 16, 3)).astype(np.float32)
  full, half = SMALL[name](jnp.float32), SMALL[name](jnp.bfloat16)
  halved = jax.eval_shape(half.init, jax.random.key(0), images)
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(halved))

  made = start(full.init, images)
  run = jax.jit(lambda made: [network.apply(*made, images, train=True)[0] for network in (full, half)])
  exact, rough = jax.device_get(run(made))
  assert exact.dtype == rough.dtype == jnp.float32 and exact.shape == rough.shape
  assert 1e-5 < np.abs(rough - exact).max() < 0.15 * np.abs(exact).max()


def test_a_residual_network_starts_as_its_shortcuts():
  """The last norm of each block starts at 0, so only the stem and the projections around blocks are seen."""
  images = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
  network = resnet(10, width=1 / 16, stem="cifar")
  params, state = start(network.init, images)
  norms = jax.jit(lambda key: {n: x for n, x in network.init(key, images)[0].items() if "scale" in x})
  params |= jax.device_get(norms(jax.random.key(0)))  # as they start, in place of NumPy's
  run = jax.jit(lambda params: network.apply(params, state, images, train=False)[0])
  inner = {name: jax.tree.map(np.zeros_like, leaf) if "_0_convolution" in name or "_1_convolution" in name else leaf
           for name, leaf in params.items()}  # fmt: skip
  assert inner.keys() == params.keys() and size(inner) == size(params)
  np.testing.assert_allclose(run(inner), run(params), rtol=1e-5)


def test_a_transformer_reads_each_patch_where_it_is():
  images = np.random.default_rng(0).random((1, 8, 12, 1)).astype(np.float32)
  network = vision_transformer(Size(8, 1, 2), 4, pool="mean")
  params, state = start(network.init, images)
  compiled = jax.jit(lambda params, x: network.apply(params, state, x, train=False)[0])
  run = lambda *given: np.asarray(compiled(*given))
  swapped = images.copy()
  swapped[:, :4, :4], swapped[:, 4:, 8:] = images[:, 4:, 8:], images[:, :4, :4]
  without = params | {"positions": np.zeros_like(params["positions"])}
  np.testing.assert_allclose(run(without, swapped), run(without, images), atol=1e-5)
  assert np.abs(run(params, swapped) - run(params, images)).max() > 1e-4


def test_learned_positions_refuse_images_of_another_size_and_those_of_waves_do_not():
  given = lambda side: np.zeros((1, side, side, 1), np.float32)
  for pool, patches in (("class", 4), ("mean", 4)):
    network = vision_transformer(Size(8, 1, 2), 4, pool=pool)
    params = jax.eval_shape(network.init, jax.random.key(0), given(8))[0]
    with pytest.raises(ValueError, match=f"images of {patches} patches, .*got 3 x 3 patches"):
      jax.eval_shape(functools.partial(network.apply, train=False), params, {}, given(12))
  network = vision_transformer(Size(8, 1, 2), 4, positions="sine_cosine")
  params = jax.eval_shape(network.init, jax.random.key(0), given(8))[0]
  assert jax.eval_shape(lambda p: network.apply(p, {}, given(12), train=False)[0], params).shape == (1, 8)


THREE_OF_FOUR = [
  [0.22442, -0.51706],
  [-1.2256, -0.45066],
  [-0.91769, 1.75096],
  [0.38988, -0.03947],
  [-0.17684, -0.00167],
]
THREE_OF_FOUR += [[0.07459, -0.1474], [1.28311, 0.22115], [-0.40321, 0.47516], [0.31247, 0.28396]]


def test_positions_of_other_sizes_are_interpolated_but_for_the_class_tokens():
  """Golden figures of open_clip 3.3's `resize_pos_embed`, fewer patches among them."""
  positions = np.random.default_rng(3).normal(size=(17, 2)).astype(np.float32)
  found = resized_positions(positions, 3)
  np.testing.assert_array_equal(found[0], positions[0])
  np.testing.assert_allclose(found[1:], THREE_OF_FOUR, atol=1e-5)
  np.testing.assert_allclose(resized_positions(positions, 4), positions, atol=1e-6)
  np.testing.assert_allclose(resized_positions(np.ones((5, 2)), 9), 1, atol=1e-6)
  for given, side in ((np.ones((6, 2)), 3), (np.ones((5, 2)), 0)):
    with pytest.raises(ValueError, match="positions of a square of patches"):
      resized_positions(given, side)


def test_a_projection_head_has_the_layers_of_the_paper():
  features = np.ones((3, 5), np.float32)
  params, _ = jax.eval_shape(projection_head(7, 4, 3).init, jax.random.key(0), features)
  assert size(params) == 5 * 7 + 14 + 7 * 7 + 14 + 7 * 4 + 4  # no bias before a norm, nor in the last one
  plain, state = jax.eval_shape(projection_head(7, 4, batch_norm=False).init, jax.random.key(0), features)
  assert size(plain) == 5 * 7 + 7 + 7 * 4 + 4 and not jax.tree.leaves(state)


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: resnet(20), "a depth of 10, 18, 34, 50, 101, got 20"),
    (lambda: resnet(18, stem="big"), "'imagenet', 'cifar', got 'big'"),
    (lambda: resnet(18, convolution="fast"), "'auto', 'slices', 'native', got 'fast'"),
    (lambda: resnet(18, width=0.001), "a width of at least"),
    (lambda: vision_transformer("H"), "'Ti', 'S', 'B', 'L' or a Size, got 'H'"),
    (lambda: vision_transformer(Size(10, 1, 3)), "a width divisible by the number of heads"),
    (lambda: vision_transformer("S", pool="max"), "'class', 'mean', 'attention', 'none', got 'max'"),
    (lambda: vision_transformer("S", dropout=1.0), "below 1, got 1.0"),
    (lambda: vision_transformer("Ti").init(jax.random.key(0), np.ones((1, 20, 16, 3))), "patches of 16"),
    (lambda: resnet(10).init(jax.random.key(0), np.ones((16, 16, 3))), r"images \[n, height, width, channels\]"),
    (lambda: projection_head(num_layers=0), "at least 1 unit"),
    (lambda: projection_head().init(jax.random.key(0), np.ones((1, 2, 3))), r"features \[n, d\]"),
  ],
)
def test_what_networks_cannot_be_is_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()


@pytest.mark.parametrize("shape", [(7, 8), (8, 7), (9, 5)])
def test_a_convolution_with_zeros_before_is_xlas_with_that_padding(shape):
  """At any stride, of few and many outputs, of kernels that narrow and widen: both forms of `convolve`."""
  random, cases = np.random.default_rng(0), []
  for size, stride, filters, n in itertools.product((1, 3, 7), (1, 2), (2, 4), (2, 40)):
    drawn = (random.normal(size=of).astype("f") for of in ((n, *shape, 3), (size, size, 3, filters)))
    cases.append((*drawn, stride, (size - 1) // 2))

  def both(images, kernel, stride, around):
    padding = ((around, around), (around, around))
    wanted = jax.lax.conv_general_dilated(
      images, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return convolve(images, kernel, stride, before=(around, around)), wanted

  run = jax.jit(lambda arrays: [both(*two, *case[2:]) for two, case in zip(arrays, cases, strict=True)])
  for found, wanted in run([case[:2] for case in cases]):
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_a_resnet_by_slices_is_the_native_one(stem):
  images, found = np.random.default_rng(0).random((16, 19, 18, 3)).astype("f"), []
  for convolution in ("native", "slices"):
    network = resnet(10, width=1 / 8, stem=stem, convolution=convolution)
    params, state = start(network.init, images[:2])
    loss = lambda params, network=network, state=state: (network.apply(params, state, images, train=True)[0] ** 2).sum()
    found.append(jax.jit(jax.value_and_grad(loss))(params))
  for native, slices in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(slices, native, atol=1e-4 * np.abs(native).max() + 1e-6)
