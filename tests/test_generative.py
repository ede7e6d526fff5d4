"""GPT, image GPT and masked autoencoders: what is to be found, what is padding, what is hidden."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from params_by_numpy import shapes, start
from table_of_learners import TINY, bright, written

from metajax import Examples, Network
from metajax.augment.palette import from_palette, to_palette
from metajax.augment.patches import patchify, unpatchify
from metajax.learners import (
  gpt,
  image_gpt,
  log_prob,
  masked_autoencoder,
  pixel_log_prob,
  reconstruct,
)
from metajax.learners.masked_autoencoder import hidden
from metajax.losses import masked_reconstruction, normalized_patches
from metajax.networks import decoder, patch_decoder, vision_transformer
from metajax.networks.linen.transformer import Size
from metajax.types import Decoded

KEY = jax.random.key(0)
PALETTE = np.linspace(0, 1, 4, dtype=np.float32)[:, None]
TOKENS = written(0)
IMAGES = bright(0)


@pytest.fixture(scope="module")
def written_by_gpt():
  network = decoder(12, TINY, 12)
  learner = gpt(network)
  return learner, *start(learner.init, TOKENS)


@pytest.fixture(scope="module")
def read_by_gpt(written_by_gpt):
  """All that is made of tokens, by one program: loss, what is decoded, features of each layer, log-probabilities."""
  learner, params, state = written_by_gpt
  network = decoder(12, TINY, 12)

  @jax.jit
  def run(params, tokens):
    given = tokens[:, :-1]
    embedded = [gpt(network, layer=layer).embed(params, state, given) for layer in (0, 1, None)]
    decoded, _ = network.apply(params, state, jnp.maximum(given, 0), train=False)
    predicted = log_prob(network)(params, state, tokens)
    return learner.loss(params, state, tokens, KEY), decoded._replace(cache=None), embedded, predicted

  return functools.cache(lambda rows, columns: jax.device_get(run(params, padded(rows, columns))))


def padded(rows, columns):
  return np.pad(TOKENS, ((0, rows), (0, columns)), constant_values=-1)


ENDED = padded(0, 1)  # whose last column is no token


@pytest.fixture(scope="module")
def seen_by_gpt():
  network = decoder(5, TINY, 16)
  learner = image_gpt(network, PALETTE, 4)
  params, state = start(learner.init, IMAGES)
  predicted = pixel_log_prob(network, 4)

  @jax.jit
  def run(params, images, labels):
    """Of small images the log-probability of each pixel, and the loss."""
    return predicted(params, state, images), learner.loss(params, state, Examples(images, labels), KEY)[0]

  labeled = np.ones((16, 2), np.float32)
  return network, learner, params, state, lambda x, labels=labeled: jax.device_get(run(params, x, labels))


def test_the_loss_of_a_gpt_is_that_of_each_token_after_those_before_it(read_by_gpt):
  (value, (_, metrics)), decoded, _, predicted = read_by_gpt(0, 1)
  logits = np.float64(decoded.features @ decoded.output_embedding.T)
  of_tokens = [
    logits[i, j - 1, token] - np.log(np.exp(logits[i, j - 1]).sum())
    for i, row in enumerate(ENDED)
    for j, token in enumerate(row)
    if j and token >= 0
  ]
  np.testing.assert_allclose(value, -np.mean(of_tokens), rtol=1e-5)
  np.testing.assert_allclose(metrics["bits"], value / np.log(2), rtol=1e-6)
  np.testing.assert_allclose(predicted[ENDED[:, 1:] >= 0].mean(), -value, rtol=1e-5)
  assert (predicted[ENDED[:, 1:] < 0] == 0).all()


def test_padding_of_any_length_weighs_nothing(read_by_gpt):
  found, longer = read_by_gpt(0, 1), read_by_gpt(4, 3)
  np.testing.assert_allclose(found[0][0], longer[0][0], rtol=1e-6)
  np.testing.assert_allclose(longer[2][2][:16], found[2][2], atol=1e-5)
  assert (longer[2][2][16:] == 0).all()


@pytest.mark.slow  # the loss is the same, and vocabulary's gives padding no gradient
def test_padding_of_any_length_has_no_gradient(written_by_gpt):
  learner, params, state = written_by_gpt
  run = jax.jit(jax.grad(lambda params, tokens: learner.loss(params, state, tokens, KEY)[0]))
  found, longer = (jax.device_get(run(params, x)) for x in (ENDED, padded(4, 3)))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), found, longer)


def test_features_are_those_of_the_layer_that_is_asked_for(read_by_gpt):
  _, decoded, embedded, _ = read_by_gpt(0, 1)
  there = TOKENS >= 0
  weights = there / np.maximum(there.sum(1, keepdims=True), 1)
  for found, features in zip(embedded, (decoded.layers[0], decoded.layers[1], decoded.features), strict=True):
    normal = (features - features.mean(-1, keepdims=True)) / (features.std(-1, keepdims=True) + 1e-9)
    np.testing.assert_allclose(found, (normal * weights[..., None]).sum(1), atol=2e-3)


@pytest.mark.parametrize(
  ("batch", "message"),
  [
    (TOKENS * 1.0, r"integer tokens \[n, length \+ 1\], got float"),
    (TOKENS[0], r"got int32 \[7\]"),
    (TOKENS[:, :1], "at least 2 tokens per row"),
    (np.where(TOKENS < 0, -2, TOKENS), "got -2"),
    (np.roll(TOKENS, 1, 1), "only after the end of a row's text"),
    (TOKENS + np.where(TOKENS < 0, 0, 5), r"from 0 to 11, the network's vocabulary, got 1[2-6]"),
    ("text", "got a str"),
  ],
)
def test_batches_that_are_no_tokens_are_refused_at_init(batch, message):
  with pytest.raises(ValueError, match=message):
    shapes(gpt(decoder(12, TINY, 8)), batch)


def test_a_layer_that_there_is_not_is_refused():
  with pytest.raises(ValueError, match="a layer from 0 to 1, or None, got 2"):
    shapes(gpt(decoder(12, TINY, 8), layer=2), TOKENS)
  with pytest.raises(ValueError, match="a layer from 0 to 1, or None, got -1"):
    shapes(image_gpt(decoder(5, TINY, 16), PALETTE, 4, layer=-1), IMAGES)


def test_pixels_are_the_nearest_colors_and_back():
  tokens = np.random.default_rng(0).integers(0, 5, (3, 16))
  palette = np.random.default_rng(1).random((5, 3)).astype(np.float32)
  images = np.asarray(jax.jit(from_palette)(tokens, palette))
  nearest = jax.jit(lambda images: to_palette(images, palette, 4))
  assert images.shape == (3, 4, 4, 3)
  np.testing.assert_array_equal(nearest(images), tokens)
  large = images.repeat(3, 1).repeat(3, 2)
  other = np.random.default_rng(2).random((3, 4, 4, 3)).astype(np.float32)
  distances = np.square(other[..., None, :] - palette).sum(-1).reshape(3, 16, 5)
  np.testing.assert_array_equal(nearest(other), distances.argmin(-1))
  assert jax.eval_shape(nearest, large).shape == (3, 16)


def test_a_pixel_is_predicted_by_those_before_it_and_the_start_is_no_color(seen_by_gpt):
  *_, run = seen_by_gpt
  small = IMAGES[:, ::4, ::4]
  before, value = run(small)
  np.testing.assert_allclose(before.mean(), -value, rtol=1e-5)
  changed = np.array(small)
  changed[:, 2:] = 1 - changed[:, 2:]
  np.testing.assert_array_equal(run(changed)[0][:, :8], before[:, :8])
  first = np.zeros((4, 4, 4, 1), np.float32) + PALETTE[:, None, None]  # an image of each color
  first = np.tile(first, (len(small) // 4, 1, 1, 1))  # as many as above, for one program
  np.testing.assert_allclose(np.exp(run(first)[0][:4, 0]).sum(), 1, rtol=1e-5)


def test_the_palette_is_carried_in_the_state(seen_by_gpt):
  network, learner, params, state, _ = seen_by_gpt
  np.testing.assert_array_equal(state["encoder"]["palette"], PALETTE)
  other = image_gpt(network, PALETTE[::-1], 4)  # what is known of it comes from the state, as a checkpoint has it
  run = jax.jit(lambda params, state: [one.embed(params, state, IMAGES) for one in (other, learner)])
  np.testing.assert_array_equal(*run(params, state))


def test_a_network_or_a_palette_that_does_not_fit_is_refused():
  for make, message in (
    (lambda: image_gpt(decoder(4, TINY, 16), PALETTE, 4), "one token per color and one for the start, got 4 for 4"),
    (lambda: image_gpt(decoder(5, TINY, 16), PALETTE[:, [0, 0, 0]], 4), r"palette .*got \[4, 3\]"),
    (lambda: image_gpt(decoder(5, TINY, 15), PALETTE, 4), "at most 15 tokens"),
  ):
    with pytest.raises(ValueError, match=message):
      shapes(make(), IMAGES)
  with pytest.raises(ValueError, match="from 0 to 1, got values from"):
    shapes(image_gpt(decoder(5, TINY, 16), PALETTE, 4), 255 * IMAGES)


def test_padded_images_weigh_nothing(seen_by_gpt):
  *_, run = seen_by_gpt
  labels = (np.arange(16) < 12)[:, None] * np.ones((16, 2), np.float32)
  small = IMAGES[:, ::4, ::4]
  of_half = np.where((np.arange(16) < 8)[:, None, None, None], small, 0.5)
  twice = np.concatenate([small[:8]] * 2)  # whose mean is that of 8
  halves = (np.arange(16) < 8)[:, None] * np.ones((16, 2), np.float32)
  np.testing.assert_allclose(run(of_half, halves)[1], run(twice)[1], rtol=1e-6)
  mae, *trained = autoencoder()
  with_padding = Examples(IMAGES, labels)
  other = Examples(np.where(labels.any(-1)[:, None, None, None], IMAGES, 0.5).astype(np.float32), labels)
  run = jax.jit(mae.loss)
  losses = [run(*trained, x, KEY)[0] for x in (with_padding, other)]
  np.testing.assert_array_equal(*losses)
  assert losses[0] != run(*trained, Examples(IMAGES, np.ones_like(labels)), KEY)[0]


SEEN = vision_transformer(TINY, 4, pool="none", positions="sine_cosine")
LIGHT = patch_decoder(16, Size(4, 1, 1))


@functools.cache
def autoencoder():
  learner = masked_autoencoder(SEEN, LIGHT, 4)
  return learner, *start(learner.init, IMAGES)


def test_patches_are_in_reading_order_and_images_come_back():
  images = np.arange(2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
  patches = patchify(images, 4)
  np.testing.assert_array_equal(patches[1, 2].reshape(4, 4, 3), images[1, 4:, :4])
  np.testing.assert_array_equal(unpatchify(patches, 4), images)
  with pytest.raises(ValueError, match="divide into patches of 3, got 8 x 8"):
    patchify(images, 3)


def test_the_loss_is_over_hidden_patches_and_depends_on_no_pixel_of_the_others_being_right():
  random = np.random.default_rng(0)
  found, patches, masked = random.normal(size=(3, 5, 4)), random.normal(size=(3, 5, 4)), random.random((3, 5)) < 0.6
  expected = np.square(found - patches).mean(-1)[masked].mean()
  run = jax.jit(masked_reconstruction)
  np.testing.assert_allclose(run(found, patches, 1.0 * masked), expected, 1e-5)
  other = np.where(masked[..., None], found, 7.0)
  np.testing.assert_allclose(run(other, patches, 1.0 * masked), expected, 1e-5)
  with pytest.raises(ValueError, match=r"got shapes \[3, 5, 4\], \[3, 5, 4\], \[5\]"):
    masked_reconstruction(np.float32(found), np.float32(patches), np.ones(5))


def test_normalized_patches_have_mean_0_and_the_unbiased_variance_1_and_even_ones_are_0():
  patches = np.random.default_rng(0).random((2, 3, 16)).astype(np.float32)
  patches[0, 0] = 0.3
  normal = np.asarray(jax.jit(normalized_patches)(patches))
  np.testing.assert_allclose(normal.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(normal.var(-1, ddof=1).reshape(-1)[1:], 1, rtol=1e-3)
  np.testing.assert_allclose(normal[0, 0], 0, atol=1e-3)


def test_what_is_hidden_is_not_seen():
  """Neither by the encoder nor, through it, by what is reconstructed."""
  _, params, state = autoencoder()
  run = jax.jit(reconstruct(SEEN, LIGHT, 4))
  made, unseen = jax.device_get(run(params, state, KEY, IMAGES))
  patches = np.asarray(patchify(IMAGES, 4))
  assert made.shape == (16, 16, 16) and (unseen.sum(-1) == 12).all()
  noise = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
  other = unpatchify(np.where(unseen[..., None], noise, patches), 4)
  np.testing.assert_array_equal(run(params, state, KEY, other)[0], made)
  seen = unpatchify(np.where(unseen[..., None], patches, noise), 4)
  assert np.abs(run(params, state, KEY, seen)[0] - made).max() > 1e-3


def put_back(params, state, tokens, order, **_):
  """Patches that are seen where they were, and 9 for all pixels of the others."""
  whole = jnp.concatenate([tokens, jnp.full((len(tokens), order.shape[1] - tokens.shape[1], 16), 9.0)], 1)
  return jnp.take_along_axis(whole, jnp.argsort(order)[..., None], 1), state


PIXELS = Network(
  lambda key, images, kept=None: ({}, {}),
  lambda params, state, images, kept, **_: (
    jnp.take_along_axis(patchify(images, 4), kept[..., None], 1) if kept is not None else 0,
    state,
  ),
)
BACK = Network(lambda key, *inputs: ({}, {}), put_back)
NOTHING = {"encoder": {}, "decoder": {}}


def test_a_patch_that_is_seen_is_at_its_place():
  """A decoder that gives its inputs back has each patch's features where the patch was."""
  made, unseen = jax.jit(reconstruct(PIXELS, BACK, 4))(NOTHING, NOTHING, KEY, IMAGES)
  np.testing.assert_array_equal(made, np.where(unseen[..., None], 9, patchify(IMAGES, 4)))


def test_the_loss_of_an_autoencoder_is_of_what_it_has_not_seen_alone():
  """Of which each pixel is wrong by 9, while all others are right."""
  run = jax.jit(masked_autoencoder(PIXELS, BACK, 4, normalize=False).loss)
  np.testing.assert_allclose(run(NOTHING, NOTHING, np.zeros_like(IMAGES), KEY)[0], 81, rtol=1e-6)


def test_patches_are_hidden_uniformly_and_of_each_image_others():
  order, kept = jax.device_get(jax.jit(lambda key: hidden(key, np.zeros((4000, 8, 8, 1)), 2, 0.75))(KEY))
  assert kept == 4 and (np.sort(order, -1) == np.arange(16)).all()
  shares = np.bincount(np.asarray(order[:, :4]).reshape(-1), minlength=16) / 4000
  np.testing.assert_allclose(shares, 0.25, atol=0.03)
  assert len(np.unique(np.sort(order[:, :4], -1), axis=0)) > 1500
  few = lambda side, patch, share: hidden(KEY, np.zeros((2, side, side, 1)), patch, share)[1]
  shares = [*((10, 1, share) for share in (0.9, 0.8, 0.75)), (8, 4, 0.99), (8, 4, 0.01)]
  assert jax.device_get(jax.jit(lambda: [few(*each) for each in shares])()) == [10, 20, 25, 1, 3]


def test_a_masked_autoencoder_embeds_all_patches_by_the_pooled_encoder():
  learner, params, state = autoencoder()
  pooled = vision_transformer(TINY, 4, pool="mean", positions="sine_cosine")
  expected = lambda params: pooled.apply(params["encoder"], state["encoder"], IMAGES, train=False)[0]
  both = jax.jit(lambda params: (learner.embed(params, state, IMAGES), expected(params)))(params)
  np.testing.assert_allclose(*both, atol=1e-6)


def test_only_visible_patches_are_computed():
  """Sixteen patches, of which the encoder multiplies four."""
  encoder = vision_transformer(Size(64, 1, 2), 4, pool="none", positions="sine_cosine")
  params, _ = jax.eval_shape(encoder.init, KEY, IMAGES)
  run = jax.jit(lambda params, *x: encoder.apply(params, {}, *x, train=False)[0])
  cost = lambda *given: run.lower(params, *given).cost_analysis()
  assert cost(IMAGES, np.zeros((16, 4), int))["flops"] < 0.4 * cost(IMAGES)["flops"]


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: masked_autoencoder(SEEN, LIGHT, 4, mask_ratio=1.0), "between 0 and 1, got 1.0"),
    (lambda: shapes(masked_autoencoder(SEEN, LIGHT, 3), IMAGES), "divide into patches of 3"),
    (lambda: shapes(masked_autoencoder(SEEN, patch_decoder(15, TINY), 4), IMAGES), "16 outputs, a patch's pixels"),
    (lambda: shapes(masked_autoencoder(SEEN, LIGHT, 4), 2 * IMAGES), "from 0 to 1"),
    (lambda: shapes(masked_autoencoder(SEEN, patch_decoder(64, TINY), 8), IMAGES), "an encoder of 4 patches"),
    (
      lambda: shapes(masked_autoencoder(vision_transformer(TINY, 4), LIGHT, 4), IMAGES),
      r"an encoder of 16 patches, \[n, patches, d\], got \[16, 8\]",
    ),
    (
      lambda: jax.eval_shape(reconstruct(SEEN, LIGHT, 8), *autoencoder()[1:], KEY, IMAGES),
      "patches of 8 x 8 pixels",
    ),
    (lambda: image_gpt(decoder(5, TINY, 16), 255 * PALETTE, 4), "palette from 0 to 1, got values from 0 to 255"),
    (lambda: to_palette(np.zeros((1, 4, 4, 3)), PALETTE, 4), r"\[n, height, width, 1\], got float64 \[1, 4, 4, 3\]"),
    (lambda: to_palette(np.zeros((1, 4, 4, 1), np.uint8), PALETTE, 4), "got uint8"),
    (
      lambda: shapes(gpt(Network(lambda key, x: ({}, {}), lambda p, s, x, **_: (x, s))), TOKENS),
      r"returns \(Decoded, state\), got ShapeDtypeStruct",
    ),
    (lambda: shapes(masked_autoencoder(SEEN, LIGHT, 4), IMAGES[:, :8]), r"square images .*got \[8, 16\]"),
    (lambda: shapes(masked_autoencoder(SEEN, LIGHT, 16), IMAGES), "several patches of 16"),
    (lambda: shapes(masked_autoencoder(SEEN, LIGHT, 1), IMAGES), "patches of several values"),
    (lambda: patch_decoder(16, TINY).init(KEY, np.zeros((1, 2, 8)), np.zeros((1, 5), int)), "square number of patches"),
    (lambda: vision_transformer(Size(6, 1, 1), 4, positions="sine_cosine"), "a width divisible by 4"),
  ],
)
def test_what_does_not_fit_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_waves_of_both_axes_tell_every_place_from_every_other():
  encoder = vision_transformer(Size(16, 1, 2), 4, pool="none", positions="sine_cosine")
  even = np.ones((1, 32, 32, 1), np.float32)

  params, state = start(encoder.init, even, size=0.1)
  assert "positions" not in params
  found = np.asarray(jax.jit(lambda params: encoder.apply(params, state, even, train=False)[0])(params))[0]
  apart = np.linalg.norm(found[:, None] - found, axis=-1) + np.eye(64)
  assert apart.min() > 1e-3


def test_a_decoder_of_ones_own_needs_neither_layers_nor_a_cache():
  """A network of pairs: the next token by the last alone."""
  table = Network(
    lambda key, tokens: ({"table": jax.random.normal(key, (12, 12))}, {}),
    lambda params, state, tokens, **_: (Decoded(params["table"][tokens], jnp.eye(12)), state),
  )
  learner = gpt(table)

  @jax.jit
  def run(key):
    params, state = learner.init(key, TOKENS)
    gradient = jax.grad(lambda p: learner.loss(p, state, TOKENS, KEY)[0])(params)["table"]
    return gradient, jax.nn.softmax(params["table"])

  gradient, likelihoods = jax.device_get(run(KEY))
  before, after = (x[TOKENS[:, 1:] >= 0] for x in (TOKENS[:, :-1], TOKENS[:, 1:]))
  expected = np.zeros((12, 12))
  np.add.at(expected, before, likelihoods[before] - np.eye(12)[after])
  np.testing.assert_allclose(gradient, expected / len(after), atol=1e-6)
  of_pixels = image_gpt(
    Network(
      lambda key, tokens: ({}, {}),
      lambda params, state, tokens, **_: (Decoded(jax.nn.one_hot(tokens, 5), jnp.eye(5)), state),
    ),
    PALETTE,
    4,
  )
  assert jax.jit(lambda key: of_pixels.init(key, IMAGES))(KEY)[0] == {"encoder": {}}
