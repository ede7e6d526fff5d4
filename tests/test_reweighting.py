"""Learning to reweight examples: the learner's gradient, the command at its smallest, and its claim."""

import functools
import json
import re

import commands
import jax
import numpy as np
import optax
import pytest

from experiments import reweighting
from metajax import Examples, gradient_steps
from metajax.data import from_arrays
from metajax.experiment import main, records
from metajax.networks import mlp

TINY = ["--ways", "3", "--clean", "2", "--inner-steps", "2", "--steps", "4", "--compared-steps", "10", "--seeds", "2"]


def images(name, split, *, seed):
  """Five classes of 24 images that differ little from their class's: what `load` gives, without drawing."""
  plain = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8, 1))
  near = plain + np.random.default_rng(seed).integers(-60, 61, (5, 24, 8, 8, 1))
  return from_arrays(near.clip(0, 255).astype(np.uint8).reshape(-1, 8, 8, 1), np.repeat(np.arange(5), 24))


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
  """Runs the command in a folder of its own: (status, output, error, the records that it published)."""
  monkeypatch.setattr(records, "home", lambda command: tmp_path / "experiments")

  def run(*arguments):
    run_it = lambda: main(reweighting.build)
    said = commands.run(monkeypatch, capsys, reweighting.__name__, run_it, *arguments)
    published = tmp_path / "experiments" / "results" / "reweighting.json"
    return *said, json.loads(published.read_text()) if published.exists() else []

  return run


def small_problem(seed):
  noisy, is_wrong, clean, *_ = reweighting.problem([images("", "", seed=i) for i in range(4)], 5, 0.4, 10, seed)
  return noisy, is_wrong, clean


def test_of_the_labels_just_the_asked_part_is_wrong_and_the_clean_ones_are_right():
  noisy, is_wrong, clean = small_problem(0)
  truth = np.tile(np.repeat(np.arange(5), 24), 2)
  characters = [noisy.labels[(truth == k) & ~is_wrong].argmax(-1) for k in range(5)]
  given = np.array([each[0] for each in characters])
  assert all((each == each[0]).all() for each in characters) and sorted(given) == list(range(5))
  assert is_wrong.sum() == 96 and (noisy.labels.argmax(-1) != given[truth]).sum() == 96
  assert np.bincount(clean.labels.argmax(-1)).tolist() == [10] * 5
  assert (noisy.labels.sum(-1) == 1).all() and noisy.inputs.dtype == np.float32


def test_a_step_lowers_the_weights_of_wrong_labels_by_the_gradient_of_plain_reverse_mode():
  noisy, is_wrong, clean = small_problem(0)
  batch = next(reweighting.mini_batches(noisy, clean, 3, seed=0, size=120)())
  learner, reference = (
    reweighting.reweighting(
      mlp([16], 5), gradient_steps(optax.sgd(0.1), 3, per_step=True, gradient=gradient), len(is_wrong)
    )
    for gradient in ("mixed", "reverse")
  )

  @jax.jit
  def both(batch):
    params, state = learner.init(jax.random.key(0), batch)
    slope, (after, _) = jax.grad(learner.loss, has_aux=True)(params, state, batch, jax.random.key(1))
    plain, _ = jax.grad(reference.loss, has_aux=True)(params, state, batch, jax.random.key(1))
    return slope, plain, learner.predict(params, after, None, clean.inputs)

  slope, plain, logits = jax.device_get(both(batch))
  drawn = np.isin(np.arange(len(is_wrong)), batch.support.inputs["row"])
  assert slope[drawn & is_wrong].mean() > 0 > slope[drawn & ~is_wrong].mean()
  assert (slope[~drawn] == 0).all()
  np.testing.assert_allclose(slope, plain, rtol=1e-4, atol=1e-8)
  assert logits.shape == clean.labels.shape


def test_a_network_trained_without_the_wrong_labels_does_not_depend_on_them():
  noisy, is_wrong, clean = small_problem(0)
  other = Examples(noisy.inputs, np.where(is_wrong[:, None], np.eye(5, dtype=np.float32)[0], noisy.labels))
  train = jax.jit(functools.partial(reweighting.train_and_test, mlp([16], 5), steps=100))
  scores = [train(data, np.float32(~is_wrong), clean, 0) for data in (noisy, other)]
  assert scores[0] == scores[1] > 0.5


def test_the_command_ends_with_its_records_page_and_figures_and_goes_on_to_the_same(command, monkeypatch, tmp_path):
  monkeypatch.setattr(reweighting, "load", images)
  folder = tmp_path / "run"
  status, out, error, published = command(*TINY, "--folder", str(folder), "--record")
  assert status == 0, error
  assert len(re.findall(r"^  (?:weight auc|accuracy|gain) +.+ [\d.-]+ ± [\d.]+$", out, re.MULTILINE)) == 8
  assert published == json.loads((folder / "records.json").read_text())
  assert {r["measure"] for r in published} == {"weight_auc", "accuracy", "gain"}
  assert all(
    len(r["each"]) == r["tasks"] == 2 and r["value"] == pytest.approx(np.mean(r["each"]), abs=1e-3) for r in published
  )
  assert "glyphs, 40% wrong labels: weight auc" in (tmp_path / "experiments" / "README.md").read_text()
  curves = {f"learning_curves-seed-{seed}.png" for seed in range(2)}
  assert {path.name for path in folder.rglob("*.png")} == {"weights.png", "least.png", *curves}
  assert "Learning to reweight" in (folder / "index.html").read_text()
  status, out, error, again = command("--folder", str(folder), "--resume")
  assert status == 0 and [r["each"] for r in again] == [r["each"] for r in published], error


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--wrong", "1"], "--wrong to be at most 0.99, got 1.0"),
    (["--clean", "25"], "--clean to be at most 24, got 25"),
    (["--seeds", "1"], "--seeds to be at least 2, got 1"),
    (["--ways", "340"], "--ways to be at most 339, got 340"),
    (["--inner-steps", "0"], "--inner-steps to be at least 1, got 0"),
    (["--compared-steps", "0"], "--compared-steps to be at least 1, got 0"),
    (["--steps", "0"], "--steps to be at least 1, got 0"),
  ],
)
def test_bad_input_gives_one_line(command, monkeypatch, tmp_path, arguments, message):
  monkeypatch.setattr(reweighting, "load", images)
  status, _, error, _ = command(*TINY, *arguments, "--folder", str(tmp_path / "run"))
  assert status == 2 and re.fullmatch(f"error: expected {message}\n", error), error


@pytest.mark.slow
def test_the_weights_separate_right_from_wrong_labels_and_the_accuracy_gains_more_than_the_interval(command, tmp_path):
  status, _, error, published = command("--folder", str(tmp_path / "run"), "--seeds", "5", "--record")
  assert status == 0, error
  of = {(r["measure"], r["learner"]): r for r in published}
  assert of["weight_auc", "learned weights"]["value"] >= 0.85
  gain = of["gain", "over unweighted"]
  assert gain["value"] > gain["interval"]
  known, learned = (of["accuracy", name]["value"] for name in ("wrong labels left out", "learned weights"))
  assert known > learned > of["accuracy", "clean images alone"]["value"]
