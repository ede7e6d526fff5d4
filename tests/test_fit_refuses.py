"""Training refuses what it cannot use before anything runs, stops at what is not finite, and measures in 32 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import Checkpoints, Learner, fit
from metajax.report import metrics_log, read_metrics
from metajax.train import (
  adamw,
  for_seeds,
  lars,
  make_train_step,
  restore,
  scale_learning_rate,
  seeds_in_parallel,
  start,
)
from metajax.train import warmup_cosine as schedule


def never(*given, **named):
  raise AssertionError("called")


def learner_of(init, loss=lambda params, state, batch, key: (jnp.sum(params["weight"]) * batch.mean(), (state, {}))):
  return Learner(lambda key, batch: init(), loss, None, None)


def batches(start=0, shard=(0, 1)):
  return iter([np.ones((2, 1), np.float32)] * 10)


UNTOUCHED = Learner(never, never, never, never)
WEIGHT = {"weight": jnp.ones(2)}
sgd = optax.sgd(0.1)


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ({"optimizer": 1e-3}, r"optimizer to be an optax optimizer, such as optax.adam\(1e-3\), got 0.001"),
    ({"optimizer": optax.adam}, "optimizer to be an optax optimizer, .*, got a function"),
    ({"batches": iter([])}, r"batches to be a function, batches\(start, shard\) itself .*, got a list_iterator"),
    ({"batches": (batch for batch in ())}, "batches to be a function, .* got a generator"),
    ({"batches": lambda start: never()}, r"batches\(start, shard\), such as .*, got batches\(start\)"),
    ({"batches": lambda: never()}, r"batches\(start, shard\), such as .*, got batches\(\)"),
    ({"learner": sgd}, "learner to be a Learner, got a GradientTransformation.*: a function of metajax.learners"),
    ({"learner": UNTOUCHED._replace(loss=None)}, "the learner's loss to be a function, .* got None"),
    ({"checkpoints": "runs/one"}, r"checkpoints to be Checkpoints, such as Checkpoints\('runs/one'\), got 'runs/one'"),
    ({"validate": 3}, "validate to be a function, or None, got 3"),
    ({"log": []}, "log to be a function, or None, got a list"),
  ],
)
def test_what_fit_cannot_use_is_refused_before_anything_runs(given, said):
  with pytest.raises(TypeError, match=said):
    fit(**{"learner": UNTOUCHED, "optimizer": sgd, "batches": never, "steps": 5, **given})


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ({"seed": -1}, "a seed to be a whole number from 0 to 4294967295, got -1"),
    ({"seed": 0.5}, "a seed to be a whole number .* got 0.5"),
    ({"seed": (0, 2**32)}, "a seed to be a whole number .* got 4294967296"),
    ({"seed": ()}, "at least one seed, got none"),
    ({"steps": 2.5}, "steps to be a whole number of at least 1, got 2.5"),
  ],
)
def test_numbers_that_fit_cannot_use_are_refused_before_anything_runs(given, said):
  with pytest.raises(ValueError, match=said):
    fit(**{"learner": UNTOUCHED, "optimizer": sgd, "batches": never, "steps": 5, **given})


@pytest.mark.parametrize(
  "call",
  [
    lambda: restore(UNTOUCHED, 0.1, never, None),
    lambda: make_train_step(UNTOUCHED, 0.1),
    lambda: start(UNTOUCHED, 0.1, None),
    lambda: for_seeds([never, batches()]),
    lambda: seeds_in_parallel(UNTOUCHED, 0.1, [never, never], (0, 1)),
  ],
)
def test_all_of_training_refuses_what_fit_refuses(call):
  with pytest.raises(TypeError, match=r"expected (optimizer|batches) to be"):
    call()


@pytest.mark.parametrize(
  ("call", "said"),
  [
    (lambda: adamw(-0.1), "learning_rate to be from 0 to inf, got -0.1"),
    (lambda: lars(np.nan), "learning_rate to be from 0 to inf, got nan"),
    (lambda: adamw(0.1, weight_decay=-1), "weight_decay to be from 0"),
    (lambda: adamw(0.1, b2=1.5), "b2 to be from 0 to 1, got 1.5"),
    (lambda: lars(0.1, momentum=-0.1), "momentum to be from 0 to 1"),
    (lambda: lars(0.1, trust=0), "trust to be above 0, got 0"),
    (lambda: schedule(-1.0, 10, 1), "learning_rate to be from 0"),
    (lambda: scale_learning_rate(np.nan, 256), "learning_rate to be from 0"),
    (lambda: seeds_in_parallel(UNTOUCHED, sgd, [never], (0, 1)), "batches for each of 2 seeds, got batches for 1"),
  ],
)
def test_numbers_of_an_optimizer_that_no_training_can_have_are_refused(call, said):
  with pytest.raises(ValueError, match=said):
    call()


def broken_after(steps, value, then):
  """A learner whose state turns to a value after so many steps; its loss and parameters stay finite."""

  def loss(params, state, batch, key):
    taken = state["taken"] + 1
    mean = jnp.where(taken > steps, value, then)
    return jnp.sum(jnp.square(params["weight"])), ({"taken": taken, "norm": {"mean": mean}}, {})

  return learner_of(lambda: (WEIGHT, {"taken": jnp.zeros((), jnp.int32), "norm": {"mean": jnp.asarray(then)}}), loss)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_running_statistics_that_are_not_finite_stop_a_training(value):
  said = f"the learner's state norm.mean was {value} at step 4, on batch 3 of seed 7; no checkpoint is saved"
  with pytest.raises(FloatingPointError, match=said):
    fit(broken_after(3, value, 0.0), sgd, batches, 10, seed=7, log_every=2)


def test_a_bound_that_was_infinite_from_the_start_stops_nothing_but_nan_in_its_place_does():
  fit(broken_after(100, 0.0, np.inf), sgd, batches, 3)
  with pytest.raises(FloatingPointError, match=r"the learner's state norm\.mean was nan at step 2"):
    fit(broken_after(1, np.nan, np.inf), sgd, batches, 2)


def test_moments_of_an_optimizer_that_overflow_stop_a_training():
  """Adam's own, in 16 bits: 300 squared is infinite, and whatever is divided by its root is no step."""
  half = learner_of(
    lambda: ({"weight": jnp.ones(2, jnp.float16)}, {}),
    lambda params, state, batch, key: (jnp.sum(300 * params["weight"]), (state, {})),
  )
  with pytest.raises(FloatingPointError, match=r"the optimizer's state 0.nu.weight was inf at step 1"):
    fit(half, optax.adam(1e-3), batches, 1)


@pytest.mark.parametrize(
  ("dtype", "gradient", "norm"),
  [(jnp.float16, 6.0, 379.473), (jnp.float16, 1e-4, 0.0063246), (jnp.bfloat16, 6, 379.473)],
)
def test_the_norm_of_a_gradient_of_16_bits_is_taken_in_32(dtype, gradient, norm):
  """4,000 of 6: the sum of their squares is 144,000, and float16 ends at 65,504; of 1e-4 each square is 0 there."""
  half = learner_of(
    lambda: ({"weight": jnp.zeros(4000, dtype)}, {}),
    lambda params, state, batch, key: (jnp.sum(gradient * params["weight"].astype(jnp.float32)), (state, {})),
  )
  said = []
  fit(half, optax.sgd(1e-3), batches, 1, log=lambda step, metrics: said.append(metrics["grad_norm"]))
  assert said == [pytest.approx(norm, rel=1e-2 if gradient < 1 else 1e-5)]


@pytest.mark.parametrize("optimizer", [lars(0.1), adamw(1e-2)])
@pytest.mark.parametrize("gradient", [300.0, 1e-4])
def test_recipes_move_parameters_of_16_bits_as_those_of_32(optimizer, gradient):
  def moved(params):
    given = jax.tree.map(lambda x: jnp.full_like(x, gradient), params)
    found, _ = optimizer.update(given, optimizer.init(params), params)
    return found

  of = lambda dtype: {"kernel": np.full((64, 64), 2, dtype), "bias": np.full(3, 2, dtype)}
  half, single = jax.device_get(
    jax.jit(lambda *both: [moved(params) for params in both])(of(np.float16), of(np.float32))
  )
  for found, expected in zip(*map(jax.tree.leaves, (half, single)), strict=True):
    assert (found.dtype, expected.dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=6e-8)
    assert expected.all()


def test_the_home_folder_is_found(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  with Checkpoints("~/run") as checkpoints:
    assert checkpoints.folder == tmp_path / "run"
  with metrics_log("~/run") as log:
    log(1, {"loss": 0.5})
  assert read_metrics("~/run")[0]["loss"] == 0.5 and (tmp_path / "run" / "metrics.jsonl").exists()
