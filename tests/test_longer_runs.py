"""A run that has ended, or was stopped, is made longer: `--folder RUN --resume --steps MORE`."""

import json
import os
import re
import shlex
import signal
import sys
from typing import Literal, NamedTuple

import commands
import few_programs
import jax
import numpy as np
import optax
import pytest
from test_hosts import SINE_WAVES, finish, launch

from metajax import Examples, compose
from metajax.experiment import RUN, Experiment, Record, RunFlags, Training, driver, longer, read_run
from metajax.experiment.bounds import Count, NotNegative
from metajax.experiment.flags import with_value
from metajax.learners import supervised


class Config(NamedTuple):
  """A linear classifier of noise."""

  schedule: Literal["constant", "cosine"] = "constant"
  """Schedule of the learning rate."""
  parts: Count = 1
  """Experiments of the run."""
  validated: bool = False
  """Validate, and keep the best step."""
  stop_at: NotNegative = 0
  """Step in which a SIGTERM comes; 0 for none."""
  training: Training = Training(steps=20, eval_every=5)
  run: RunFlags = RUN._replace(checkpoint_every=20)  # each takes a while to write


PRESETS = {"short": Config(), "other": Config(training=Training(steps=10))}
states = []  # of each evaluation


def batches(seed, stop_at):
  def stream(start=0, shard=(0, 1)):
    for step in range(start, 100):
      if start < step == stop_at:  # drawn while step `stop_at` runs
        os.kill(os.getpid(), signal.SIGTERM)
      random = np.random.default_rng([seed, step])
      yield Examples(random.normal(size=(8, 3)).astype(np.float32), np.eye(2, dtype=np.float32)[np.arange(8) % 2])

  return stream


def build(config: Config):
  steps = config.training.steps
  rate = 0.1 if config.schedule == "constant" else optax.cosine_decay_schedule(0.1, steps)

  def one(name):
    def evaluate(trained):
      states.append([jax.device_get(state._replace(key=None)) for state in trained.states])
      return [Record("linear", "agreement", 0.5, None, about=trained.said)]

    score = lambda params, state: -float(np.abs(jax.tree.leaves(params)[0]).sum())
    kept = {"validate": score, "keep": "best"} if config.validated else {}
    learner = supervised(compose.linear(2))
    return Experiment(name, learner, optax.adam(rate), lambda seed: batches(seed, config.stop_at), (evaluate,), **kept)

  return one("linear") if config.parts == 1 else [one(f"linear-{i}") for i in range(config.parts)]


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
  """Runs the experiment in a folder: (its status, its standard output, its standard error)."""
  few_programs.use(monkeypatch)
  monkeypatch.setattr(driver, "write_page", lambda *given: None)
  monkeypatch.setattr(sys.modules[__name__], "states", [])
  experiment = lambda: driver.main(build, PRESETS)
  return lambda folder, *flags: commands.run(
    monkeypatch, capsys, "longer", experiment, *flags, "--devices", "1", "--folder", str(tmp_path / folder)
  )


def read(tmp_path, name):
  return json.loads((tmp_path / "run" / name).read_text())


def is_equal(one, other):
  return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


@pytest.mark.parametrize(
  "flags",
  [
    [],
    pytest.param(["--validated"], marks=pytest.mark.slow),  # whose best step is among the first 20
    pytest.param(["--seeds", "2", "--seeds-in-parallel", "2"], marks=pytest.mark.slow),
    pytest.param(["--seeds", "2", "--seeds-in-parallel", "1"], marks=pytest.mark.slow),
    pytest.param(["--parts", "2"], marks=pytest.mark.slow),
  ],
)
def test_a_run_of_20_steps_made_40_long_equals_one_of_40_to_the_bit(train, tmp_path, flags):
  assert train("run", *flags)[0] == 0
  status, out, error = train("run", "--resume", "--steps", "40")
  assert status == 0 and "20 steps changed to 40" in out and "resuming after step 20" in out, error
  parts = 2 if "--parts" in flags else 1
  longer_run = states[parts:]
  assert train("whole", *flags, "--steps", "40")[0] == 0
  assert is_equal(longer_run, states[2 * parts :])
  assert is_equal(longer_run, states[:parts]) == ("--validated" in flags)
  for path in (tmp_path / "run").rglob("metrics.jsonl"):
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 40 and 20 in steps


def test_a_longer_run_is_known_by_its_new_length_and_keeps_the_records_of_the_shorter(train, tmp_path):
  train("run", "--schedule", "cosine", "--steps", "20")
  before = (tmp_path / "run" / "records.json").read_text()
  assert train("run", "--resume", "--steps", "40", "--keep", "2")[0] == 0
  said, (record,) = read(tmp_path, "run.json"), read(tmp_path, "records.json")
  now = ["--preset", "short", "--schedule", "cosine", "--steps", "40", "--devices", "1"]
  assert said["arguments"] == now and shlex.split(said["command"])[3:] == now
  assert said["flags"]["steps"] == 40 and len(said["sessions"]) == 2
  assert record["steps"] == 40 and record["command"].count("--steps 40") == 1 and "--steps 20" not in record["command"]
  assert (tmp_path / "run" / "records-20-steps.json").read_text() == before
  assert read_run(tmp_path / "run", [__name__]).training.steps == 40

  status, out, _ = train("run", "--resume")  # without --steps, the longer training
  assert status == 0 and "changed to" not in out
  assert read(tmp_path, "records.json")[0]["steps"] == 40 and len(states) == 3 and is_equal(*states[1:])


def test_a_cosine_that_had_reached_0_rises_again(train):
  train("run", "--schedule", "cosine")
  train("run", "--resume", "--steps", "40")
  (((short,), (long,))) = states
  count = lambda state: {int(x) for x in jax.tree.leaves(state.optimizer_state) if x.dtype == np.int32}
  assert (count(short), count(long)) == ({20}, {40})
  moved = max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (short.params, long.params)), strict=True))
  assert moved > 0.1


@pytest.mark.slow
def test_a_stopped_run_is_made_longer_and_goes_on_to_the_new_length_after_another_stop(train, tmp_path):
  train("run", "--stop-at", "7")
  assert not states and longer.trained_steps(tmp_path / "run") == 7
  said = read(tmp_path, "run.json")
  said["flags"]["stop_at"] = 30  # of the next session
  said["arguments"][said["arguments"].index("7")] = "30"
  (tmp_path / "run" / "run.json").write_text(json.dumps(said))
  train("run", "--resume", "--steps", "40")
  assert not states and longer.trained_steps(tmp_path / "run") == 30
  _, out, error = train("run", "--resume")
  assert "resuming after step 30" in out and len(states) == 1, error
  train("whole", "--steps", "40")
  assert is_equal(*states)


def test_a_stopped_run_may_end_sooner_but_not_before_the_steps_that_are_trained(train, tmp_path):
  train("run", "--stop-at", "7")
  before = sorted(path.stat().st_mtime for path in (tmp_path / "run").rglob("*"))
  status, _, error = train("run", "--resume", "--steps", "6")
  folder = re.escape(str(tmp_path / "run"))
  assert status == 2
  assert re.fullmatch(f"error: expected --steps to be at least 7, which '{folder}' has trained, got 6\n", error), error
  assert sorted(path.stat().st_mtime for path in (tmp_path / "run").rglob("*")) == before
  status, _, error = train("run", "--resume", "--steps", "7")
  assert status == 0 and [int(state.step) for (state,) in states] == [7], error


def test_a_run_keeps_its_length_where_a_preset_has_another_today(train, monkeypatch, tmp_path):
  train("run")
  monkeypatch.setitem(PRESETS, "short", Config(training=Training(steps=30, eval_every=5)))
  status, _, error = train("run", "--resume")
  assert status == 2 and error.startswith("error: expected --steps 20, as the run in") and error.endswith("got 30\n")
  status, out, error = train("run", "--resume", "--steps", "20")
  assert status == 0 and "changed to" not in out, error
  assert train("run", "--resume")[0] == 0  # the length is an argument of the run from now on
  assert len(states) == 3 and is_equal(*states[1:])


@pytest.mark.slow
def test_several_hosts_make_a_run_longer_and_one_of_them_says_so(tmp_path):
  finish(launch(2, tmp_path / "run", *SINE_WAVES, "--steps", "20"))
  said = finish(launch(2, tmp_path / "run", "--resume", "--steps", "40"))
  assert said.count("20 steps changed to 40") == 1 and "resuming after step 20" in said
  assert read(tmp_path, "run.json")["flags"]["steps"] == 40
  assert {record["steps"] for record in read(tmp_path, "records.json")} == {40}
  assert {record["steps"] for record in read(tmp_path, "records-20-steps.json")} == {20}


@pytest.mark.parametrize(
  ("given", "found"),
  [
    ("", "--steps 40"),
    ("--a 1", "--a 1 --steps 40"),
    ("--steps 20 --a 1", "--steps 40 --a 1"),
    ("--steps 10 --steps=20 --a 1", "--steps 10 --steps=40 --a 1"),
  ],
)
def test_a_flag_is_given_another_value_in_its_place(given, found):
  assert with_value(given.split(), "--steps", "40") == found.split()
