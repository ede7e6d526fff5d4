"""The export that a run ends with: its own learner, its card, and nothing lost where there is none."""

import functools

import commands
import drawn_by_numpy
import jax
import numpy as np
import one_block
import pytest

import metajax
from experiments import prototypical
from experiments.families.few_shot import tasks as few_shot
from metajax.experiment import driver, exports, records
from metajax.experiment.evaluate import trained_of
from metajax.experiment.finished_runs import read_run
from metajax.experiment.types import Trained
from metajax.train import TrainState

pytestmark = pytest.mark.exports
TINY = ["--preset", "paper", "--filters", "4", "--tasks", "2", "--ways", "3", "--shots", "1", "--queries", "2",
        "--test", "3w1s", "--test-queries", "2", "--test-tasks", "6", "--validation-tasks", "6", "--steps", "2",
        "--validate-every", "1", "--size", "16", "--devices", "1"]  # fmt: skip


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs a tiny prototypical network without a page: (its status, its output, its errors, the folders of its run)."""
  monkeypatch.setattr(records, "home", lambda command: tmp_path / "experiments")
  monkeypatch.setattr(driver, "write_page", lambda run, *given: None)
  monkeypatch.setattr(few_shot, "episodes", drawn_by_numpy.episodes)
  one_block.use(monkeypatch)

  def run(*flags):
    main = functools.partial(commands.run_command, prototypical)
    arguments = [*TINY, *flags, "--output", str(tmp_path / "runs")]
    done = commands.run(monkeypatch, capsys, prototypical.__name__, main, *arguments)
    return *done, [path.parent for path in (tmp_path / "runs").rglob("run.json")]

  return run


def test_a_run_ends_with_the_export_of_its_learner(run):
  status, out, error, (folder,) = run()
  assert status == 0, error
  assert f"export for `metajax predict`: {folder / 'export'}\n" in out
  model = metajax.load(folder).model
  about = model.config["about"]
  assert about["data"] == "glyphs" and "--filters 4" in about["command"]
  kept = records.read(folder / "records.json")
  assert [one["value"] for one in about["records"]] == [one["value"] for one in kept]
  _, trained = trained_of(read_run(folder, ("experiments.prototypical",)))
  images = np.random.default_rng(0).random((5, 16, 16, 1), np.float32)
  (state,) = trained.states  # the best by validation
  assert about["step"] == int(state.step)
  wanted = trained.learner.embed(state.params, state.state, images)
  np.testing.assert_allclose(model.embed(images), wanted, rtol=1e-4, atol=1e-5)


def test_what_hosts_gather_for_an_export_is_numpy_but_for_keys():
  state = TrainState({"w": jax.numpy.ones(2)}, {"key": jax.random.key(1)}, (), jax.random.key(0), jax.numpy.int32(2))
  trained = exports.gather(Trained([state], None, 0.0, 0, 1, 0, 0.0, []))
  (first,) = trained.states
  assert isinstance(first.params["w"], np.ndarray)
  assert jax.random.bits(first.state["key"]) == jax.random.bits(state.state["key"])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("expected any number of rows")])
def test_a_run_without_export_loses_nothing_else(run, monkeypatch, error):
  def fails(*given, **kept):
    raise error

  monkeypatch.setattr(exports, "write_export", fails)
  status, out, _, (folder,) = run()
  assert status == 0 and f"not exported: {error}\n" in out
  assert (folder / "records.json").is_file() and not (folder / "export").exists()


def test_no_export_where_none_is_wanted(run, monkeypatch):
  monkeypatch.setattr(driver, "export_run", lambda *given: pytest.fail("exported"))
  status, out, error, _ = run("--no-export")
  assert status == 0, error
  assert "export for" not in out and "not exported" not in out
