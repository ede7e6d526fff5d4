"""The moving average of the parameters: its recursion in NumPy, in validations, checkpoints and commands."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import Examples, fit, make_mesh
from metajax.checkpoint import Checkpoints
from metajax.compose import linear
from metajax.learners import supervised
from metajax.mesh import to_host
from metajax.train import _loop, averaged, make_train_step, restore, start, with_ema

BATCH = Examples(np.eye(8, dtype=np.float32), np.eye(8, dtype=np.float32))
LEARNER = supervised(linear(8))


def batches(start=0, shard=(0, 1)):
  return itertools.repeat(BATCH)


def test_the_average_follows_its_recursion_and_leaves_the_training_as_it_is():
  optimizer, plain = with_ema(optax.adam(0.1), 0.7), optax.adam(0.1)
  step, other = (jax.jit(make_train_step(LEARNER, one)) for one in (optimizer, plain))
  state, alone = start(LEARNER, optimizer, BATCH), start(LEARNER, plain, BATCH)
  expected = jax.tree.map(np.asarray, state.params)
  for _ in range(5):
    (state, _), (alone, _) = step(state, BATCH), other(alone, BATCH)
    expected = jax.tree.map(lambda mean, x: 0.7 * mean + 0.3 * np.asarray(x), expected, state.params)
  jax.tree.map(np.testing.assert_array_equal, state.params, alone.params)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), averaged(state).params, expected)
  assert averaged(alone) is alone


def test_fit_validates_the_average_and_checkpoints_keep_it(tmp_path):
  optimizer, seen = with_ema(optax.sgd(1.0), 0.9), []

  def validate(params, state):
    seen.append(to_host(params))
    return 0.0

  with Checkpoints(tmp_path) as checkpoints:
    trained = fit(LEARNER, optimizer, batches, 3, validate=validate, eval_every=3, checkpoints=checkpoints)
  jax.tree.map(np.testing.assert_array_equal, seen[0], to_host(averaged(trained).params))
  assert max(jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), seen[0], to_host(trained.params)))) > 1e-3
  with Checkpoints(tmp_path) as checkpoints:
    again = restore(LEARNER, optimizer, batches, checkpoints)
  jax.tree.map(np.testing.assert_array_equal, to_host(averaged(again).params), seen[0])


def test_16_bit_parameters_are_averaged_in_32_bits():
  params = {"x": jnp.ones(3, jnp.bfloat16)}
  optimizer = with_ema(optax.sgd(1.0), 0.999)
  state = optimizer.init(params)
  _, state = optimizer.update({"x": jnp.ones(3, jnp.bfloat16)}, state, params)
  np.testing.assert_allclose(state.ema["x"], 0.999, rtol=1e-6)


def test_the_average_is_sharded_as_the_parameters():
  with jax.set_mesh(make_mesh(8, fsdp=True)):
    state = start(LEARNER, with_ema(optax.sgd(0.1), 0.9), BATCH)
    shards = jax.tree.map(lambda x: x.sharding, (state.params, state.optimizer_state.ema))
  assert shards[0] == shards[1] and not jax.tree.leaves(shards)[-1].is_fully_replicated


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan"), "0.9"])
def test_a_decay_out_of_range_is_refused(decay):
  with pytest.raises((ValueError, TypeError), match="decay"):
    with_ema(optax.sgd(0.1), decay)


def test_with_checkpoints_the_devices_hold_no_copy_of_the_best_state(tmp_path, monkeypatch):
  def refused(train_state):
    raise AssertionError("a second copy on the devices")

  scores = iter([0.0, 2.0, 1.0])
  optimizer, seen = optax.sgd(1.0), []

  def validate(params, state):
    seen.append(to_host(params))
    return next(scores)

  monkeypatch.setattr(_loop, "_copy", refused)
  with Checkpoints(tmp_path) as checkpoints:
    best = fit(LEARNER, optimizer, batches, 3, validate=validate, eval_every=1, checkpoints=checkpoints)
  assert int(best.step) == 2
  jax.tree.map(np.testing.assert_array_equal, to_host(best.params), seen[1])
