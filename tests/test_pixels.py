"""Batches hold images as bytes; the compiled step scales them, to the bit as NumPy divides by 255."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import (
  Episode,
  Examples,
  Pair,
  compose,
  data,
  fit,
  images_to_float,
  learners,
  make_mesh,
  networks,
  pretexts,
)
from metajax.augment import augment_batch
from metajax.augment.image import gaussian_noise
from metajax.evaluate import embed_dataset, few_shot_accuracy
from metajax.train import make_train_step, start

ALL = np.arange(256, dtype=np.uint8).reshape(2, 8, 8, 2)
QUOTIENTS = np.float32(ALL) / np.float32(255)


def source(rows=24, classes=6):
  images = np.random.default_rng(0).integers(0, 256, (rows, 16, 16, 3), np.uint8)
  return data.from_arrays(images, np.arange(rows) % classes, captions=[[f"class {i}"] for i in range(classes)])


def test_every_byte_becomes_the_quotient_by_255_to_the_bit():
  for values in (images_to_float(ALL), images_to_float(jnp.asarray(ALL)), jax.jit(images_to_float)(ALL)):
    assert values.dtype == np.float32 and np.array_equal(values, QUOTIENTS)


def test_the_quotient_stays_the_same_to_the_bit_where_it_is_fused_into_its_use():
  centered = jax.jit(lambda x: (images_to_float(x) - 0.5) * 0.25)(ALL)
  assert np.array_equal(centered, (QUOTIENTS - np.float32(0.5)) * np.float32(0.25))


def test_only_images_are_scaled():
  tokens, labels, sounds = np.array([[1, 2]], np.uint8), np.array([[0, 1]], np.uint8), np.ones((1, 2), np.float32)
  pair = Pair({"seen": ALL, "heard": sounds}, tokens)
  episode = images_to_float(Episode(Examples(pair, labels), Examples(ALL[None], labels)))
  assert np.array_equal(episode.support.inputs.first["seen"], QUOTIENTS)
  assert np.array_equal(episode.query.inputs[0], QUOTIENTS)
  assert episode.support.inputs.second is tokens and episode.support.inputs.first["heard"] is sounds
  assert episode.support.labels is labels and episode.query.labels is labels
  assert images_to_float(Examples(ALL, ALL)).labels is ALL  # whatever their shape


def test_every_sampler_of_images_gives_bytes():
  given = source()
  task = {"ways": 2, "shots": 1, "queries": 1, "meta_batch_size": 2}
  tokens = np.zeros((6, 3), np.int32)
  samplers = (
    data.episodes(given, **task),
    data.prompted_episodes(given, tokens, **task),
    data.train_batches(given, batch_size=4),
    data.eval_batches(given, batch_size=4),
    data.pairs(given, batch_size=4),
    data.triplets(given, batch_size=4),
    data.balanced(given, classes=2, each=2),
    data.image_texts(given, data.train_tokenizer(["a class"], 300), batch_size=4, max_length=8),
    data.recording_batches(data.moving_glyphs(clips=4, frames=2, size=16), batch_size=2),
  )
  for batches in samplers:
    images = [x for x in jax.tree.leaves(next(batches())) if x.ndim > 3]
    assert images and {x.dtype for x in images} == {np.dtype(np.uint8)}


def test_a_train_step_on_bytes_equals_one_on_numbers_to_the_bit():
  learner, optimizer = learners.prototypical(networks.conv4(filters=4)), optax.adam(1e-2)
  batch = next(data.episodes(source(), ways=3, shots=1, queries=2, meta_batch_size=2)())
  step = jax.jit(make_train_step(learner, optimizer))
  of = [step(start(learner, optimizer, one, 0), one) for one in (batch, images_to_float(batch))]
  assert all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (_bits(of[0]), _bits(of[1]))), strict=True))


def _bits(result):
  return [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
          for x in jax.tree.leaves(result)]  # fmt: skip


def test_evaluations_on_bytes_equal_those_on_numbers():
  given = source()
  embed = lambda params, state, x: x.reshape(len(x), -1)
  found = embed_dataset(embed, {}, {}, data.eval_batches(given, batch_size=8)).inputs
  assert np.array_equal(found, np.float32(given.images).reshape(24, -1) / np.float32(255))
  near = lambda params, state, support, x: -jnp.square(x[:, None] - support.inputs).mean((2, 3, 4))
  learner = learners.prototypical(networks.conv4(filters=4))._replace(predict=near)
  batches = data.episodes(given, ways=3, shots=1, queries=2, meta_batch_size=2)
  scaled = lambda *place: map(images_to_float, batches(*place))
  of = [few_shot_accuracy(learner, {}, {}, some, 8).tasks for some in (batches, scaled)]
  assert np.array_equal(*of)


@pytest.mark.parametrize("use", ["init", "apply", "augment", "learner"])
def test_bytes_that_were_not_scaled_are_refused(use):
  network, images = networks.conv4(filters=4), np.zeros((2, 16, 16, 3), np.uint8)
  params, state = network.init(jax.random.key(0), jnp.zeros(images.shape))
  batch = Examples(images[None], np.eye(2, dtype=np.float32)[None])
  episode = Episode(batch, batch)
  calls = {
    "init": lambda: network.init(jax.random.key(0), images),
    "apply": lambda: network.apply(params, state, images, train=False),
    "augment": lambda: augment_batch(gaussian_noise(0.1), jax.random.key(0), images),
    "learner": lambda: learners.prototypical(network).init(jax.random.key(0), episode),
  }
  with pytest.raises(ValueError, match=r"from 0 to 1, got uint8 .*images_to_float"):
    calls[use]()


def test_fit_stays_two_batches_ahead_but_never_past_the_last_step():
  drawn, seen = [], []

  def batches(start=0, shard=(0, 1)):
    for i in range(start, 5):
      drawn.append(i)
      yield Examples(np.full((2, 3), i, np.float32), np.eye(2, dtype=np.float32))

  def log(step, metrics):
    seen.append((step, len(drawn)))

  learner = learners.supervised(compose.linear(2))
  fit(learner, optax.sgd(0.1), batches, 4, log=log, log_every=1)
  assert drawn == [0, 1, 2, 3] and seen == [(1, 2), (2, 3), (3, 4), (4, 4)]


def test_batches_that_end_early_are_all_used_before_the_error():
  steps = []
  batch = Examples(np.zeros((2, 3), np.float32), np.eye(2, dtype=np.float32))
  with pytest.raises(ValueError, match="expected batches for 5 steps, got 3"):
    fit(
      learners.supervised(compose.linear(2)),
      optax.sgd(0.1),
      lambda start=0, shard=(0, 1): iter([batch] * 3),
      5,
      log=lambda step, metrics: steps.append(step),
      log_every=1,
    )
  assert steps == [1, 2, 3]


def test_an_error_of_a_batch_is_raised_after_the_steps_before_it():
  steps, batch = [], Examples(np.zeros((2, 3), np.float32), np.eye(2, dtype=np.float32))

  def batches(start=0, shard=(0, 1)):
    yield from [batch] * 3
    raise OSError("the disk is gone")

  with pytest.raises(OSError, match="the disk is gone"):
    fit(
      learners.supervised(compose.linear(2)),
      optax.sgd(0.1),
      batches,
      5,
      log=lambda step, metrics: steps.append(step),
      log_every=1,
    )
  assert steps == [1, 2, 3]


def test_batches_may_reuse_their_arrays():
  aligned = np.zeros(64 * 256 + 16, np.float32)
  aligned = aligned[(-aligned.ctypes.data // 4) % 16 :][: 64 * 256].reshape(64, 256)  # which JAX would not copy

  def batches(reused, start=0, shard=(0, 1)):
    for i in range(start, 9):
      inputs = aligned if reused else np.empty_like(aligned)
      inputs[:] = np.random.default_rng(i).normal(size=inputs.shape)
      yield Examples(inputs, np.eye(2, dtype=np.float32)[np.arange(64) % 2])

  learner = learners.supervised(compose.linear(2))
  for mesh in (make_mesh(1), make_mesh(2)):
    with jax.set_mesh(mesh):
      of = [fit(learner, optax.sgd(0.1), functools.partial(batches, reused), 4).params for reused in (True, False)]
    assert all(map(np.array_equal, *map(jax.tree.leaves, of)))


@pytest.mark.parametrize("use", ["clip.init", "clip.embed", "clip.predict", "simclr.init", "pretext.init",
                                 "pretext.loss", "pretext.embed", "pretext.predict"])  # fmt: skip
def test_learners_refuse_bytes_whatever_their_networks(use):
  flat = compose.with_preprocessing(compose.linear(2), lambda x: x.reshape(-1).astype(jnp.float32))
  images, key = np.ones((4, 8, 8, 1), np.uint8), jax.random.key(0)
  made = {
    "clip": (learners.clip(flat, flat), Pair(images, np.ones((4, 64), np.int32))),
    "simclr": (learners.simclr(flat, compose.linear(2), lambda key, x: x), images),
    "pretext": (learners.pretext(pretexts.rotation(), flat, compose.linear(4)), images),
  }
  learner, batch = made[use.split(".")[0]]
  params, state = learner.init(key, images_to_float(batch))
  calls = {
    "init": lambda: learner.init(key, batch),
    "loss": lambda: learner.loss(params, state, batch, key),
    "embed": lambda: learner.embed(params, state, images),
    "predict": lambda: learner.predict(params, state, Examples(images, np.eye(4, dtype=np.float32)), images),
  }
  with pytest.raises(ValueError, match=r"from 0 to 1, got uint8 .*images_to_float"):
    calls[use.split(".")[1]]()
