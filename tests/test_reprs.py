"""What is printed of a TrainState, a Learner and a score is one short line, whatever they hold."""

import importlib
import itertools
import pickle
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import metajax
from metajax import Examples, compose, fit, learners, version
from metajax.evaluate import mean_and_ci
from metajax.experiment import records
from metajax.report import jsonl_log
from metajax.train import TrainState, start

ROOT = Path(metajax.__file__).parent.parent
BATCH = Examples(np.eye(8, 3, dtype=np.float32), np.eye(8, 2))
LEARNER = learners.supervised(compose.linear(2))
PARTS = "params=<4 arrays, 14 numbers>, state=<empty>, optimizer_state=<empty>"


def of_step(step, seed=0):
  return start(LEARNER, optax.sgd(0.1), BATCH, seed)._replace(step=step)


def test_a_train_state_prints_its_step_and_the_sizes_of_its_parts():
  assert repr(of_step(np.int32(1000))) == f"TrainState(step=1000, {PARTS})"


def test_the_train_state_of_several_seeds_prints_each_step():
  state = jax.tree.map(lambda *x: jax.numpy.stack(x), of_step(jax.numpy.int32(3)), of_step(jax.numpy.int32(5), 1))
  assert repr(state).startswith("TrainState(step=[3 5], params=<4 arrays, 28 numbers>")


def test_a_train_state_prints_without_values():
  printed, state = [], of_step(jax.numpy.int32(1))

  @jax.jit
  def traced(state):
    printed.append(repr(state))
    return state

  jax.jit(lambda state: state, donate_argnums=0).lower(state)
  printed.append(repr(jax.eval_shape(traced, state)))
  for leaf in jax.tree.leaves(state):
    leaf.delete()
  assert [*printed, repr(state)] == [f"TrainState(step=int32[], {PARTS})"] * 3


def test_a_train_state_prints_whatever_a_tree_map_puts_into_it():
  state = of_step(jax.numpy.int32(1))
  assert repr(jax.tree.map(lambda x: "s", state)).startswith("TrainState(step=str, params=<4 leaves>, state=<empty>")
  assert repr(TrainState(None, None, None, None, None)).startswith("TrainState(step=None, params=<empty>")


def test_a_train_state_with_a_short_repr_is_the_same_pytree_and_pickles():
  state = jax.device_get(of_step(jax.numpy.int32(1))._replace(key=np.uint32(0)))
  again = pickle.loads(pickle.dumps(state))
  assert jax.tree.structure(again) == jax.tree.structure(state) and len(jax.tree.leaves(state)) == 6
  assert type(again) is TrainState and repr(again) == repr(state)


def test_a_learner_prints_the_names_of_its_functions():
  assert repr(LEARNER) == (
    "Learner(init=supervised.init, loss=supervised.loss, embed=supervised.embed, predict=_compared.predict)"
  )
  assert "embed=NoneType, predict=function" in repr(LEARNER._replace(embed=None, predict=type(lambda: 0)))


def test_a_score_prints_its_mean_and_interval_and_not_each_task():
  score = mean_and_ci(np.linspace(96.0, 98.2, 1000))
  assert repr(score) == "Score(97.10 ± 0.04, 1,000 tasks)"
  assert repr(score._replace(tasks=None)) == "Score(97.10 ± 0.04)"
  assert repr(jax.tree.map(lambda x: "s", score)) == "Score(mean='s', ci95='s', ...)"


def test_fit_prints_a_line_for_every_report_with_the_rows_of_a_batch(capsys):
  rows = []
  state = fit(
    LEARNER,
    optax.sgd(0.1),
    lambda start, shard: itertools.repeat(BATCH),
    4,
    progress=True,
    log_every=2,
    log=lambda step, metrics: rows.append((step, metrics)),
  )
  first, second = capsys.readouterr().out.splitlines()
  rate = round(8 * rows[0][1]["steps_per_second"])
  assert first.startswith(f"step 2/4  {rate} examples/s  loss {rows[0][1]['loss']:.3f}") and "step 4/4" in second
  assert int(state.step) == 4 and [step for step, _ in rows] == [2, 4]


def test_fit_prints_nothing_by_default_nor_on_other_hosts(capsys, monkeypatch):
  batches = lambda start, shard: itertools.repeat(BATCH)
  fit(LEARNER, optax.sgd(0.1), batches, 1)
  monkeypatch.setattr(importlib.import_module("metajax.train.fit"), "is_primary_host", lambda: False)
  fit(LEARNER, optax.sgd(0.1), batches, 1, progress=True)
  assert capsys.readouterr().out == ""


def test_fit_refuses_a_logger_that_is_not_entered(tmp_path):
  with pytest.raises(TypeError, match=r"expected log to be a function .*, got a context manager: use `with"):
    fit(LEARNER, optax.sgd(0.1), lambda start, shard: itertools.repeat(BATCH), 1, log=jsonl_log(tmp_path))


def test_the_version_is_that_of_the_package_and_of_records():
  assert metajax.__version__ == records.versions()["metajax"] == version._in_checkout(ROOT)


def test_a_checkout_that_is_not_installed_has_a_version_too(tmp_path, monkeypatch):
  def missing(name):
    raise version.PackageNotFoundError

  monkeypatch.setattr(version, "version", missing)
  assert version.package_version() == metajax.__version__
  assert version._in_checkout(tmp_path) == "unknown"
  (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "9"\n')
  assert version._in_checkout(tmp_path) == "unknown"
