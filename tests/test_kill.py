"""A command that is killed, stopped or interrupted, and gone on with, ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import chex
import jax
import orbax.checkpoint as ocp
import pytest

from experiments import sinusoid
from metajax.experiment import driver

ARGUMENTS = ["--steps", "100", "--checkpoint-every", "10", "--tasks", "5", "--hidden", "8", "--test-tasks", "25",
             "--learners", "maml"]  # fmt: skip
WITHOUT_A_PAGE = """
from experiments import sinusoid
from metajax.experiment import driver
driver.write_page = lambda *given: None
driver.main(sinusoid.build)
"""
TIMES = {"time", "seconds", "steps_per_second", "data_wait_fraction", "rows_per_second", "goodput"}
WRITING = "*.orbax-checkpoint-tmp*"


def begin(folder, *more):
  """The experiment's process."""
  arguments = ["-c", WITHOUT_A_PAGE, *ARGUMENTS, "--folder", str(folder), *more]
  environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
  return subprocess.Popen([sys.executable, *arguments], env=environment, **pipes)


def finish(process, status=0):
  said, _ = process.communicate(timeout=120)
  assert process.returncode == status, said
  return said


def when(process, seen):
  """Returns as soon as `seen()` is true, while the process runs."""
  until = time.monotonic() + 60
  while not seen():
    assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
    time.sleep(0.003)


def rows(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def left(folder):
  """What a run has come to: its last parameters and optimizer, its metrics without the times."""
  found = {"records": [(r["learner"], r["value"]) for r in json.loads((folder / "records.json").read_text())]}
  arrays = ocp.StandardCheckpointer().restore(folder / "maml" / "checkpoints" / "100" / "arrays")
  metrics = [{name: value for name, value in row.items() if name not in TIMES} for row in rows(folder / "maml")]
  found["maml"] = arrays, metrics
  return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("whole") / "run"
  with pytest.MonkeyPatch.context() as patch:  # in this process, which has imported what it needs
    patch.setattr(driver, "write_page", lambda *given: None)
    patch.setattr(sys, "argv", ["experiments.sinusoid", *ARGUMENTS, "--folder", str(folder)])
    driver.main(sinusoid.build)
  return left(folder)


def test_a_run_killed_while_a_checkpoint_is_written_and_then_stopped_ends_with_the_same_bits(whole, tmp_path):
  folder = tmp_path / "run"
  process, kept = begin(folder), folder / "maml" / "checkpoints"
  when(process, lambda: list(kept.glob(WRITING)) and len(list(kept.glob("[0-9]*[0-9]"))) >= 3)
  process.kill()
  finish(process, -signal.SIGKILL)
  metrics = folder / "maml" / "metrics.jsonl"
  before, process = metrics.stat().st_size, begin(folder, "--resume")
  when(process, lambda: metrics.stat().st_size > before)
  process.terminate()
  said = finish(process, 0)
  assert "stopped by SIGTERM after step" in said and f"--folder {folder} --resume" in said
  assert "and is gone: its claim is stale" in said and not (folder / ".claim").exists()

  finish(begin(folder, "--resume"))
  chex.assert_trees_all_equal(left(folder), whole)


@pytest.mark.slow
def test_a_second_process_on_a_folder_is_refused_and_the_first_ends_as_if_it_had_not_been(whole, tmp_path):
  folder = tmp_path / "run"
  first = begin(folder)
  when(first, (folder / "run.json").exists)
  first.send_signal(signal.SIGSTOP)
  for more in ((), ("--resume",)):
    said = finish(begin(folder, *more), 2)
    assert f"expected a folder that no other process writes in, got '{folder}': process {first.pid} on" in said
  first.send_signal(signal.SIGCONT)
  finish(first)
  chex.assert_trees_all_equal(left(folder), whole)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(6))
def test_a_run_killed_again_and_again_at_any_moment_ends_with_the_same_bits(whole, tmp_path, trial):
  folder, chance = tmp_path / "run", random.Random(trial)
  for _ in range(4):
    process = begin(folder, "--resume")
    try:
      process.wait(chance.uniform(2, 8))
    except subprocess.TimeoutExpired:
      process.kill()
    process.communicate()
  finish(begin(folder, "--resume"))
  chex.assert_trees_all_equal(left(folder), whole)
