"""The training loop: a pure function of its seed and batches, on any number of devices, that says what goes wrong."""

import contextlib
import functools
import itertools
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import Examples, Learner, fit, make_mesh
from metajax.checkpoint import Checkpoints
from metajax.train import Stopped, for_seeds, make_train_step, restore, seeds_in_parallel, start

three_drawn = jax.jit(lambda key: jax.random.normal(key, (3,)))


def init(key, batch):
  return {"weight": three_drawn(key)}, {"steps": jnp.zeros((), jnp.int32)}


def loss(params, state, batch, key):
  noise = 0.1 * jax.random.normal(key)
  error = jnp.mean(jnp.square(batch.inputs @ params["weight"] + noise - batch.labels))
  return error, ({"steps": state["steps"] + 1}, {"noise": noise})


regression = Learner(init, loss, None, None)
optimizer = optax.adam(0.05)


def batch_of(step, rows=16):
  random = np.random.default_rng(step)
  inputs = random.normal(size=(rows, 3)).astype(np.float32)
  return Examples(inputs, inputs @ np.array([1, -2, 3], np.float32))


def batches(start=0, shard=(0, 1)):
  return map(batch_of, range(start, 10**6))


def only(steps, change=lambda step, batch: batch):
  """Batches that end after `steps`, each changed by its step."""
  return lambda start, shard: (change(step, batch_of(step)) for step in range(start, steps))


@functools.cache
def five_steps():
  return fit(regression, optimizer, batches, 5)


def close(found, expected):
  chex.assert_trees_all_close(jax.device_get(found), jax.device_get(expected), rtol=1e-5, atol=1e-6)


def test_fit_is_its_loop_written_out():
  trained = fit(regression, optimizer, batches, 5, seed=3)

  @jax.jit
  def written_out():
    init_key, run_key = jax.random.split(jax.random.key(3))
    params, state = init(init_key, batch_of(0))
    optimizer_state = optimizer.init(params)
    for step in range(5):
      gradient, _ = jax.grad(loss, has_aux=True)(params, state, batch_of(step), jax.random.fold_in(run_key, step))
      updates, optimizer_state = optimizer.update(gradient, optimizer_state)
      params = optax.apply_updates(params, updates)
    return params, optimizer_state

  close((trained.params, trained.optimizer_state), written_out())
  assert trained.step == trained.state["steps"] == 5


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
  first, second, other = (fit(regression, optimizer, batches, 3, seed=seed) for seed in (0, 0, 1))
  chex.assert_trees_all_equal(first, second)
  assert not np.array_equal(first.params["weight"], other.params["weight"])


def test_metrics_of_a_step_are_the_loss_the_norm_of_its_gradient_and_the_learners_own():
  before = start(regression, optimizer, batch_of(0))

  @jax.jit
  def both(before):
    _, metrics = make_train_step(regression, optimizer)(before, batch_of(0))
    key = jax.random.fold_in(before.key, 0)
    (value, (_, own)), gradient = jax.value_and_grad(loss, has_aux=True)(before.params, before.state, batch_of(0), key)
    return metrics, {"loss": value, "grad_norm": jnp.linalg.norm(gradient["weight"]), **own}

  close(*both(before))


def test_eight_devices_train_like_one():
  with jax.set_mesh(make_mesh(8)):
    eight = fit(regression, optimizer, batches, 5)
  assert len(eight.params["weight"].sharding.device_set) == 8
  close(eight._replace(key=0), five_steps()._replace(key=0))


def test_a_batch_that_the_devices_do_not_divide_is_refused():
  with jax.set_mesh(make_mesh(8)), pytest.raises(ValueError, match="by the 8 devices of the mesh, got 12 rows"):
    fit(regression, optimizer, lambda start, shard: iter([batch_of(0, 12)]), 1)


@pytest.mark.parametrize(
  ("scores", "best"),
  [([1, 3, 2], 4), ([1, 2, 3], 5), ([3, 3, 3], 2), ([-3, -5, -4], 2), ([np.nan, 1, 2], 5), ([2, np.nan, 1], 2)],
)
def test_validation_keeps_the_first_best_state_while_training_goes_on(scores, best):
  seen = []

  def validate(params, state):
    seen.append((int(state["steps"]), np.asarray(params["weight"])))
    return scores[len(seen) - 1]

  trained = fit(regression, optimizer, batches, 5, validate=validate, eval_every=2)
  assert [step for step, _ in seen] == [2, 4, 5]
  assert trained.step == trained.state["steps"] == best
  np.testing.assert_array_equal(trained.params["weight"], dict(seen)[best])
  np.testing.assert_array_equal(seen[-1][1], five_steps().params["weight"])


def test_log_is_given_averages_since_it_was_last_called():
  each, some = [], []
  fit(regression, optimizer, batches, 7, log=lambda *said: each.append(said), log_every=1)
  fit(regression, optimizer, batches, 7, log=lambda *said: some.append(said), log_every=3)
  assert [step for step, _ in each] == [1, 2, 3, 4, 5, 6, 7] and [step for step, _ in some] == [3, 6, 7]
  times = {"steps_per_second", "data_wait_fraction", "seconds"}
  assert set(some[0][1]) == {"loss", "grad_norm", "noise", *times}
  assert some[0][1]["seconds"] < some[1][1]["seconds"] and all(0 <= m["data_wait_fraction"] <= 1 for _, m in each)
  for (_, found), window in zip(some, (each[:3], each[3:6], each[6:]), strict=True):
    assert all(isinstance(value, float) for value in found.values())
    for name in ("loss", "grad_norm", "noise"):
      np.testing.assert_allclose(found[name], np.mean([metrics[name] for _, metrics in window]), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step_and_its_batch(value):
  spoil = lambda step, batch: batch._replace(labels=batch.labels + (value if step == 2 else 0))
  with pytest.raises(FloatingPointError, match=r"loss was (nan|inf) at step 3, on batch 2 of seed 5; no checkpoint"):
    fit(regression, optimizer, only(100, spoil), 100, seed=5, log_every=2)
  with pytest.raises(FloatingPointError, match="at step 3"):
    fit(regression, optimizer, only(3, spoil), 3)


def test_a_parameter_that_is_not_finite_stops_the_run_by_name_though_the_loss_was():
  breaks = optax.chain(optimizer, optax.scale_by_schedule(lambda count: jnp.where(count == 1, jnp.nan, 1.0)))
  with pytest.raises(FloatingPointError, match="the parameter weight was nan at step 2"):
    fit(regression, breaks, batches, 2)


def test_no_checkpoint_is_written_of_what_is_not_finite_and_the_last_good_one_is_named(tmp_path):
  spoil = lambda step, batch: batch._replace(labels=batch.labels + (np.nan if step == 6 else 0))
  with (
    Checkpoints(tmp_path) as kept,
    pytest.raises(FloatingPointError, match=f"step 7, .*good checkpoint is {tmp_path}/6"),
  ):
    fit(regression, optimizer, only(100, spoil), 100, checkpoints=kept, checkpoint_every=3, log_every=50)
  with Checkpoints(tmp_path) as kept:
    assert kept.steps() == [3, 6]


def test_debug_nans_points_at_the_line_that_made_the_number():
  def root(params, state, batch, key):
    return jnp.sqrt(batch.labels).mean() + 0 * params["weight"].sum(), (state, {})

  spoil = lambda step, batch: batch._replace(labels=np.abs(batch.labels) - (9e9 if step == 2 else 0))
  with pytest.raises(FloatingPointError, match=r"invalid value \(nan\) encountered in sqrt") as raised:
    fit(regression._replace(loss=root), optimizer, only(9, spoil), 9, debug_nans=True)
  assert "This was step 3, on batch 2 of seed 0; no checkpoint is saved." in raised.value.__notes__
  assert any(frame.name == "root" for frame in raised.traceback)


def followed(folder, steps, *, fail_at=None, stop_at=None, seed=0, devices=1, **settings):
  """A run with all that it may have: (its TrainState, or None where it was cut off; what `log` was given)."""
  rows = []

  def watched(start=0, shard=(0, 1)):
    for step in itertools.count(start):
      if step == fail_at:
        raise InterruptedError
      yield batch_of(step)

  def log(step, metrics):
    times = ("steps_per_second", "data_wait_fraction", "seconds")
    rows.append((step, {name: value for name, value in metrics.items() if name not in times}))

  many = np.ndim(seed) > 0
  stop = lambda: "SIGTERM" if rows and rows[-1][0] >= stop_at else None
  with contextlib.suppress(InterruptedError, Stopped), jax.set_mesh(make_mesh(devices)), Checkpoints(folder) as kept:
    trained = fit(
      regression,
      optimizer,
      for_seeds([watched] * len(seed)) if many else watched,
      steps,
      seed=seed,
      log=log,
      log_every=3,
      validate=lambda params, state: -float(np.square(np.asarray(params["weight"])[0] - 0.2).sum()),
      eval_every=4,
      checkpoints=kept,
      checkpoint_every=2,
      **({"stop": stop} if stop_at else {}),
    )
    return trained, rows
  return None, rows


@functools.cache
def uninterrupted(folder, seed=0):
  return followed(folder, 11, seed=seed)


@pytest.fixture
def ended(tmp_path_factory):
  """The folder of a run that has ended, and what it gave: nothing may be written there."""
  folder = tmp_path_factory.getbasetemp() / "whole-0"
  return folder, *uninterrupted(folder, 0)


@pytest.mark.parametrize(
  "cut", [{"fail_at": 1}, {"fail_at": 5}, {"fail_at": 10}, {"stop_at": 3}, {"stop_at": 8}], ids=str
)
@pytest.mark.parametrize("seed", [0, (3, 4)])
def test_a_run_cut_off_anywhere_goes_on_to_the_same_bits_and_the_same_log(tmp_path, tmp_path_factory, cut, seed):
  expected, rows = uninterrupted(tmp_path_factory.getbasetemp() / f"whole-{seed}", seed)
  nothing, before = followed(tmp_path, 11, seed=seed, **cut)
  assert nothing is None
  found, after = followed(tmp_path, 11, seed=seed)
  first = after[0][0]
  assert [row for row in before if row[0] < first] + after == rows
  chex.assert_trees_all_equal(found._replace(key=0), expected._replace(key=0))


@pytest.mark.filterwarnings("ignore:.*is skipped")
def test_a_run_whose_best_checkpoint_is_lost_goes_back_and_finds_it_again(tmp_path, ended):
  folder, expected, rows = ended
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  shutil.rmtree(tmp_path / str(int(expected.step)) / "arrays")
  with Checkpoints(tmp_path) as kept, pytest.raises(ValueError, match="resume the run to compute them again"):
    restore(regression, optimizer, batches, kept)
  with pytest.warns(match="is skipped"):
    found, after = followed(tmp_path, 11)
  assert after == [row for row in rows if row[0] >= after[0][0]]
  chex.assert_trees_all_equal(found._replace(key=0), expected._replace(key=0))


def test_a_run_of_another_seed_is_not_gone_on_with(ended):
  with Checkpoints(ended[0]) as kept, pytest.raises(ValueError, match=r"expected seed 0, of the run in .*, got 1"):
    fit(regression, optimizer, batches, 12, seed=1, checkpoints=kept)


def test_a_tree_that_cannot_be_saved_is_refused_before_the_first_step(tmp_path):
  params = {"weight": jnp.ones(3), "a.b": 1.0, "a": {"b": 1.0}}
  twice = regression._replace(init=lambda key, batch: (params, {"steps": 0}))
  with Checkpoints(tmp_path) as kept, pytest.raises(ValueError, match=r"unique paths .*, got 'params.a.b' twice"):
    fit(twice, optimizer, only(1), 5, checkpoints=kept)


def test_a_run_that_had_ended_is_given_back_without_a_step(ended):
  folder, expected, _ = ended
  found, rows = followed(folder, 11, fail_at=11)
  assert rows == []
  chex.assert_trees_all_equal(found._replace(key=0), expected._replace(key=0))


def test_stop_is_told_what_was_done():
  with pytest.raises(Stopped, match="stopped by SIGTERM after step 2, not saved"):
    fit(regression, optimizer, batches, 9, stop=iter([None, "SIGTERM"]).__next__)


def test_a_checkpoint_beyond_the_steps_is_refused(ended):
  with (
    Checkpoints(ended[0]) as kept,
    pytest.raises(ValueError, match=r"least the 11 steps of the checkpoint .*, got 5"),
  ):
    fit(regression, optimizer, batches, 5, checkpoints=kept)


def test_restore_gives_the_best_and_the_last(tmp_path, ended):
  folder, expected, _ = ended
  with Checkpoints(folder) as kept:
    best = restore(regression, optimizer, batches, kept)
    last = restore(regression, optimizer, batches, kept, best=False)
  chex.assert_trees_all_equal(best._replace(key=0), expected._replace(key=0))
  assert last.step == 11 and best.step == expected.step
  with pytest.raises(FileNotFoundError, match=r"expected a checkpoint in .*none, got none"):
    restore(regression, optimizer, batches, Checkpoints(tmp_path / "none"))


@pytest.mark.parametrize("devices", [1, 4])
def test_eight_devices_are_gone_on_with_by_others_on_the_same_examples(tmp_path, ended, devices):
  _, expected, rows = ended
  followed(tmp_path, 11, fail_at=5, devices=8)
  found, after = followed(tmp_path, 11, devices=devices)
  assert [step for step, _ in after] == [step for step, _ in rows if step >= after[0][0]]
  close(found._replace(key=0), expected._replace(key=0))


def test_seeds_side_by_side_train_as_each_would_alone():
  seeds = (0, 7)
  each = [lambda start, shard, s=s: (batch_of(1000 * s + i) for i in range(start, 100)) for s in seeds]
  together = jax.device_get(fit(regression, optimizer, for_seeds(each), 5, seed=seeds)._replace(key=0))
  for i, seed in enumerate(seeds):
    alone = fit(regression, optimizer, each[i], 5, seed=seed)
    close(jax.tree.map(lambda x, i=i: x[i], together._replace(key=())), alone._replace(key=()))


def test_as_many_seeds_train_side_by_side_as_the_memory_allows(monkeypatch):
  in_parallel = lambda: seeds_in_parallel(regression, optimizer, [batches] * 6, range(6))
  assert in_parallel() == 6
  monkeypatch.setattr("metajax.train.seeds._bytes", lambda step, state, batch: 100 * len(state.step))
  monkeypatch.setattr("metajax.train.seeds._bytes_free", lambda: 450)
  assert in_parallel() == 3
  monkeypatch.setattr("metajax.train.seeds._bytes_free", lambda: 50)
  assert in_parallel() == 1


def test_each_seed_has_its_own_best():
  scores = iter([1.0, 5.0, 2.0, 4.0])  # of two seeds after steps 2 and 4
  best = fit(
    regression, optimizer, for_seeds([batches] * 2), 4, seed=(0, 1), validate=lambda *_: next(scores), eval_every=2
  )
  assert best.step.tolist() == best.state["steps"].tolist() == [4, 2]


def never(*_):
  raise AssertionError("called")


@pytest.mark.parametrize(
  "setting", [{"steps": 0}, {"steps": -1}, {"log_every": 0}, {"eval_every": 0}, {"checkpoint_every": 0}]
)
def test_a_setting_below_one_is_refused_before_anything_is_drawn_or_made(setting):
  ((name, value),) = setting.items()
  with pytest.raises(ValueError, match=f"expected {name} to be a whole number of at least 1, got {value}"):
    fit(Learner(never, never, never, never), optimizer, never, **{"steps": 5, "validate": never, **setting})


@pytest.mark.parametrize("there", [0, 3])
def test_batches_that_end_early_are_refused(there):
  with pytest.raises(ValueError, match=f"expected batches for 5 steps, got {there}"):
    fit(regression, optimizer, only(there), 5)


def test_no_more_batches_are_drawn_than_there_are_steps():
  drawn = []
  fit(regression, optimizer, only(100, lambda step, batch: drawn.append(step) or batch), 4)
  assert drawn == [0, 1, 2, 3]


def test_each_host_starts_at_the_first_batch_and_reads_its_own_part(monkeypatch):
  asked = []

  def batches(start, shard):
    asked.append((start, shard))
    return only(1)(start, shard)

  fit(regression, optimizer, batches, 1)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  with pytest.raises(ValueError, match="expected a mesh over the devices of all 4 hosts"):
    fit(regression, optimizer, batches, 1)
  assert asked == [(0, (0, 1)), (0, (1, 4))]


def test_a_run_takes_no_array_away_from_the_learner_or_the_optimizer():
  """The steps are given their buffers: an array that two of them share, or that outlives the run, must be a copy."""
  weight = jnp.ones(3)
  fixed = regression._replace(init=lambda key, batch: ({"weight": weight}, {"steps": jnp.zeros((), jnp.int32)}))
  remembers = optax.GradientTransformation(lambda params: params, lambda updates, state, params=None: (updates, state))
  first, second = (fit(fixed, remembers, batches, 2) for _ in range(2))
  np.testing.assert_array_equal(first.optimizer_state["weight"], weight)
  chex.assert_trees_all_equal(first.params, second.params)
