"""Batches computed in parts: the gradient of the whole batch, on any number of devices, in less memory."""

import functools

import jax
import numpy as np
import one_block
import optax
import pytest
from one_of_several_hosts import trainings

from metajax import Examples, make_mesh
from metajax.compose import linear, with_head
from metajax.learners import gpt, supervised
from metajax.mesh import shard_batch, to_host
from metajax.networks import Size, conv4, decoder, mlp
from metajax.train import make_train_step, start


def learners():
  random = np.random.default_rng(0)
  tokens = random.integers(0, 16, (16, 7)).astype(np.int32)
  examples = Examples(random.random((16, 5), np.float32), np.eye(4, dtype=np.float32)[random.integers(0, 4, 16)])
  maml, tasks = trainings()["maml"]
  both = jax.tree.map(lambda *x: np.concatenate(x), next(tasks(0)), next(tasks(1)))
  return {
    "maml": (maml, both),
    "gpt": (gpt(decoder(16, Size(16, 2, 2), 6)), tokens),
    "supervised": (supervised(mlp([8], 4)), examples),
  }


def after_a_step(learner, batch, accumulate, devices=1):
  optimizer = optax.sgd(0.1)
  with jax.set_mesh(make_mesh(devices)):
    step = jax.jit(make_train_step(learner, optimizer, accumulate))
    state, metrics = step(start(learner, optimizer, batch), shard_batch(batch))
    return to_host((state.params, metrics))


@pytest.mark.parametrize("name", ["maml", "gpt", "supervised"])
def test_parts_have_the_gradient_of_the_batch(name):
  learner, batch = learners()[name]
  expected = after_a_step(learner, batch, 1)
  for accumulate, devices in ((4, 1), (2, 8)):
    found = after_a_step(learner, batch, accumulate, devices)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected)


def test_parts_take_less_memory():
  learner, images = supervised(with_head(conv4(16), linear(4))), np.zeros((64, 16, 16, 1), np.float32)
  batch, optimizer = Examples(images, np.eye(4, dtype=np.float32)[np.arange(64) % 4]), optax.sgd(0.1)
  state = jax.eval_shape(lambda: start(learner, optimizer, batch))
  one, eight = (
    jax.jit(make_train_step(learner, optimizer, parts)).lower(state, batch).compile().memory_analysis()
    for parts in (1, 8)
  )
  assert eight.temp_size_in_bytes < 0.3 * one.temp_size_in_bytes


def test_the_state_goes_from_part_to_part(monkeypatch):
  one_block.use(monkeypatch)
  learner = supervised(with_head(conv4(2), linear(4)))
  batch = Examples(np.random.default_rng(0).random((4, 16, 16, 1), np.float32), np.eye(4, dtype=np.float32))
  optimizer = optax.sgd(0.0)
  state = start(learner, optimizer, batch)
  in_parts, _ = jax.jit(make_train_step(learner, optimizer, 2))(state, batch)
  step, one = jax.jit(make_train_step(learner, optimizer)), state
  for i in range(2):
    one, _ = step(one, jax.tree.map(lambda x, i=i: x[i::2], batch))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), in_parts.state, one.state)


def test_parts_that_do_not_divide_the_batch_are_refused():
  learner, batch = learners()["supervised"]
  with pytest.raises(ValueError, match="expected a batch that divides into 3 parts, got 16 rows"):
    after_a_step(learner, batch, 3)
  with pytest.raises(ValueError, match="divides into 4 parts shared by 8 devices, got 16 rows"):
    after_a_step(learner, batch, 4, devices=8)
  with pytest.raises(ValueError, match="accumulate"):
    make_train_step(learner, optax.sgd(0.1), 0)
