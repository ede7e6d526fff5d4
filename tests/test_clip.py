"""CLIP: the loss of its towers, zero-shot from prompts, a locked tower, one step that no number of devices changes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from params_by_numpy import start
from table_of_learners import captioned, convolution, encoder, shaken, text

from metajax import Examples, Pair
from metajax.compose import chunked, frozen, linear, with_head, with_pretrained_params
from metajax.learners import clip
from metajax.losses import info_nce, siglip
from metajax.losses.contrastive import LARGEST_LOG_SCALE
from metajax.mesh import make_mesh, shard_batch
from metajax.networks import text_transformer
from metajax.networks.linen.transformer import Size
from metajax.train import adamw, keep_params_below

learner = clip(encoder, text)
NO_STATE = {"image": {}, "text": {}}


@pytest.fixture(scope="module")
def params():
  return start(learner.init, captioned(0), size=0.5)[0] | {"log_scale": np.float32(np.log(1 / 0.07))}


def towers(params, batch):
  first = encoder.apply(params["image"], {}, batch.first, train=True)[0]
  return first, text.apply(params["text"], {}, batch.second, train=True)[0]


def test_the_loss_is_that_of_the_two_towers(params):
  batch, other = captioned(1), clip(encoder, text, "siglip")

  @jax.jit
  def run(params, key):
    made, _ = other.init(key, batch)
    expected = info_nce(*towers(params, batch), 1 / 0.07), siglip(*towers(made, batch), 10.0, -10.0)
    found = learner.loss(params, NO_STATE, batch, key), other.loss(made, NO_STATE, batch, key)[0]
    large = made | {"log_scale": jnp.log(117.0)}  # published SigLIPs' is above CLIP's bound
    both = other.loss(large, NO_STATE, batch, key)[0], siglip(*towers(made, batch), 117.0, -10.0)
    return found, expected, both, jnp.exp(made["log_scale"]), made["bias"]

  ((loss, (_, metrics)), of_sigmoids), expected, unbounded, *numbers = run(params, jax.random.key(0))
  np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
  assert metrics["scale"] == pytest.approx(1 / 0.07, rel=1e-5)
  assert tuple(map(float, numbers)) == (pytest.approx(10), -10)
  np.testing.assert_allclose(of_sigmoids, expected[1], rtol=1e-6)
  np.testing.assert_allclose(*unbounded, rtol=1e-5)


def test_a_view_is_of_the_images_alone(params):
  batch, views = captioned(1), []
  seen = clip(encoder, text, augmentation=lambda key, x: views.append(x.shape) or shaken(key, x))
  run = jax.jit(lambda params, key: [one.loss(params, NO_STATE, batch, key)[0] for one in (seen, learner)])
  loss, without = run(params, jax.random.key(0))
  assert views == [batch.first.shape[1:]] and loss != without


def test_predict_is_zero_shot_from_the_prompts_of_each_class(params):
  tokens, images = captioned(2).second, captioned(3).first
  labels = np.eye(3, dtype=np.float32)[np.array([0, 0, 1, 2, 2, 2])]

  @jax.jit
  def run(params):
    got = learner.predict(params, NO_STATE, Examples(tokens[:6], labels), images)
    prompts = text.apply(params["text"], {}, tokens[:6], train=False)[0]
    return got, prompts, encoder.apply(params["image"], {}, images, train=False)[0]

  got, prompts, seen = jax.device_get(run(params))
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  classes = unit(np.stack([unit(prompts)[labels[:, k] > 0].mean(0) for k in range(3)]))
  np.testing.assert_allclose(got, unit(seen) @ classes.T / 0.07, rtol=1e-4, atol=1e-5)


def steps(learner, optimizer, params, batches):
  """Training, a step a batch: params at its end, and the gradient of each step."""

  def step(carry, batch):
    params, state = carry
    gradient = jax.grad(lambda p: learner.loss(p, NO_STATE, batch, jax.random.key(0))[0])(params)
    updates, state = optimizer.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), gradient

  (params, _), gradients = jax.lax.scan(step, (params, optimizer.init(params)), batches)
  return params, gradients


def test_a_text_is_learned_to_find_its_image_in_a_few_steps(params):
  optimizer = optax.chain(optax.adam(1e-2), keep_params_below(LARGEST_LOG_SCALE, "log_scale"))

  @jax.jit
  def run(params, batch):
    trained, _ = steps(learner, optimizer, params, jax.tree.map(lambda x: jnp.broadcast_to(x, (200, *x.shape)), batch))
    return trained, [learner.embed(trained, NO_STATE, x) for x in batch]

  trained, (first, second) = jax.device_get(run(params, captioned(0)))
  nearest = (first @ second.T).argmax(-1)
  assert np.mean(nearest == np.arange(16)) > 0.9
  assert float(trained["log_scale"]) <= LARGEST_LOG_SCALE + 1e-6


def test_a_locked_tower_stays_as_it_was_to_the_bit_and_the_other_learns(params):
  tuned = clip(frozen(with_pretrained_params(encoder, params["image"])), text)
  batches = jax.tree.map(lambda *x: np.stack(x), *map(captioned, range(3)))

  @jax.jit
  def run(key, batches):
    before, _ = tuned.init(key, captioned(0))
    locked = {name: name == "image" for name in before}
    optimizer = optax.selective_transform(adamw(1e-2, weight_decay=0.5), freeze_mask=locked)
    return before, *steps(tuned, optimizer, before, batches)

  before, after, gradient = jax.device_get(run(jax.random.key(0), batches))
  for made in (before, after):
    jax.tree.map(np.testing.assert_array_equal, made["image"], params["image"])
  moved = jax.tree.map(lambda x, y: np.abs(np.subtract(x, y)).max(), after["text"], before["text"])
  assert max(jax.tree.leaves(moved)) > 0
  assert not any(np.any(x) for x in jax.tree.leaves(gradient["image"]))


def test_chunked_towers_give_the_same_gradient(params):
  split = clip(chunked(encoder, 4), chunked(text, 8))
  gradient = lambda l: jax.jit(jax.grad(lambda p: l.loss(p, NO_STATE, captioned(1), jax.random.key(0))[0]))(params)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), gradient(split), gradient(learner))


def test_one_step_on_eight_devices_is_that_on_one_batch_statistics_included():
  convolutional = clip(with_head(convolution, linear(5)), text)
  random = np.random.default_rng(0)
  batch = Pair(random.random((16, 16, 16, 1)).astype(np.float32), captioned(0).second)
  params, state = jax.jit(convolutional.init)(jax.random.key(0), batch)
  step = jax.jit(jax.value_and_grad(convolutional.loss, has_aux=True))
  (loss, (after, _)), gradient = jax.device_get(step(params, state, batch, jax.random.key(1)))
  with jax.set_mesh(make_mesh(8)):
    found = step(params, state, shard_batch(batch), jax.random.key(1))
  (eight, (eight_after, _)), eight_gradient = jax.device_get(found)
  np.testing.assert_allclose(eight, loss, rtol=1e-5)
  size = max(np.abs(x).max() for x in jax.tree.leaves(gradient))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * size), eight_gradient, gradient)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), eight_after, after)


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda b: b.first, "expected a Pair of images and tokens, got a ndarray"),
    (lambda b: b._replace(second=b.second[:5]), r"tokens \[16, length\], one row per image, got int32 \[5, 5\]"),
    (lambda b: b._replace(second=np.float32(b.second)), r"got float32 \[16, 5\]"),
    (lambda b: b._replace(first=b.first * np.nan), "expected finite values, got NaN"),
    (lambda b: Pair(b.first[:1], b.second[:1]), "at least 2 images in a batch"),
  ],
)
def test_a_batch_that_is_no_pair_is_refused_at_init(change, said):
  with pytest.raises(ValueError, match=said):
    learner.init(jax.random.key(0), change(captioned(0)))


def test_towers_of_different_widths_and_unknown_losses_are_refused():
  with pytest.raises(ValueError, match=r"expected towers of one width, \[n, d\], got \[16, 5\] and \[16, 4\]"):
    clip(encoder, text_transformer(12, Size(8, 1, 2), 5, num_outputs=4)).init(jax.random.key(0), captioned(0))
  with pytest.raises(ValueError, match="expected loss to be one of 'info_nce', 'siglip', got 'triplet'"):
    clip(encoder, text, "triplet")
