"""The commands: what they do at their smallest, and one clear line for bad input, with nothing written."""

import json
import re
import sys

import jax
import numpy as np
import pytest

from experiments import command_line, few_shot, maml, prototypical, records, sinusoid
from metajax.data import from_arrays

BUDGETS = {maml: maml.BUDGETS, prototypical: prototypical.BUDGETS, sinusoid: None}
TINY = ["--filters", "4", "--tasks", "2", "--queries", "2", "--test-queries", "2", "--test-tasks", "6",
        "--validation-tasks", "6", "--steps", "2", "--validate-every", "1"]  # fmt: skip


def pictures(name, split="train", *, size=28, download=False, rotations=False):
  """Ten classes of six pictures: what `load` gives, without drawing or reading anything."""
  seed = ("train", "validation", "test").index(split)
  images = np.random.default_rng(seed).integers(0, 256, (60, size, size, 1), np.uint8)
  return from_arrays(images, np.repeat(np.arange(10), 6), classes=[f"{split} {k}" for k in range(10)])


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
  """Runs a command in a folder of its own: (its standard output, its standard error, the files it wrote)."""
  monkeypatch.setattr(records, "HERE", tmp_path / "experiments")

  def run(module, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments, "--output", str(tmp_path / "runs")])
    try:
      command_line.run(module.main, BUDGETS[module])
      status = 0
    except SystemExit as stop:
      status = stop.code
    out, error = capsys.readouterr()
    return status, out, error, sorted(p.name for p in tmp_path.rglob("*") if p.is_file())

  return run


@pytest.mark.parametrize("module", [maml, prototypical], ids=["maml", "prototypical"])
def test_a_run_ends_with_its_accuracy_records_and_picture(command, monkeypatch, module):
  monkeypatch.setattr(few_shot, "load", pictures)
  status, out, _, files = command(module, *TINY, "--ways", "3", "--test", "3w1s", "--record")
  name = module.__name__.split(".")[-1]
  assert status == 0
  assert re.search(rf"{name} +[\d.]+ ± [\d.]+%\n +pixels, nearest centroid +[\d.]+ ± [\d.]+%\n +chance +33.33%", out)
  assert files == ["README.md", "episode.png", f"{name}-glyphs.json", f"{name}-glyphs.png", "records.json"]


def test_records_are_flat_and_say_what_was_run(command, monkeypatch, tmp_path):
  monkeypatch.setattr(few_shot, "load", pictures)
  command(prototypical, *TINY, "--ways", "4", "--test", "3w1s", "2w2s", "--record")
  found = json.loads((tmp_path / "experiments" / "results" / "prototypical-glyphs.json").read_text())
  assert [(r["learner"], r["ways"], r["shots"]) for r in found] == [
    ("prototypical", 3, 1), ("pixels", 3, 1), ("prototypical", 2, 2), ("pixels", 2, 2)]  # fmt: skip
  for r in found:
    assert 0 <= r["value"] <= 100 and r["tasks"] == 6 and r["queries"] == 2 and r["measure"] == "accuracy"
    assert "jax" in r["versions"] and r["seed"] == 0 and r["machine"]
  page = (tmp_path / "experiments" / "README.md").read_text()
  assert f"{found[0]['value']:.4g} ± " in page and "3-way 1-shot" in page and "prototypical" in page


def test_two_runs_of_one_seed_give_the_same_digits(command, monkeypatch, tmp_path):
  monkeypatch.setattr(few_shot, "load", pictures)
  values = []
  for _ in range(2):
    command(prototypical, *TINY, "--ways", "3", "--test", "3w1s", "--record")
    written = json.loads((tmp_path / "experiments" / "results" / "prototypical-glyphs.json").read_text())
    values.append([(r["value"], r["interval"], r.get("chosen_step")) for r in written])
  assert values[0] == values[1]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--ways", "11"], r"from 2 ways to the 10 classes of the source, got 11"),
    (["--shots", "5", "--queries", "2"], r"shots \+ queries of at most 6, .*; got 5 \+ 2 = 7"),
    (["--rate", "-1"], r"a rate above 0, got -1.0"),
    (["--filters", "0"], r"filters to be at least 1, got 0"),
    (["--devices", "0"], r"1 to 8 devices, .*got 0"),
    (["--seed", "-1"], r"a seed of 0 to 2\*\*32 - 1, got -1"),
    (["--steps", "0"], r"steps to be at least 1, got 0"),
    (["--test-tasks", "1"], r"at least 2 tasks.*got 1 to test"),
    (["--validation-tasks", "1"], r"at least 2 tasks.*1 to validate"),
    (["--tasks", "3", "--devices", "2"], r"divides by the 2 devices of the mesh, got 3 rows"),
    (["--devices", "9"], r"1 to 8 devices, .*got 9"),
    (["--test", "5ways"], r"such as 5w1s, got '5ways'"),
    (["--test", "3w1s"], r"logits \[3, 3\] for labels of 3 ways, got \[3, 5\]"),
    (["--budget", "huge"], r"--budget to be one of paper, cpu, demo, got 'huge'"),
    (["--wayz", "5"], r"unknown flag '--wayz': expected one of .*--ways"),
    (["--inner-steps", "0"], r"steps to be a whole number of at least 1, got 0"),
  ],
)
def test_bad_input_gives_one_line_that_quotes_it_and_writes_nothing(command, monkeypatch, arguments, message):
  monkeypatch.setattr(few_shot, "load", pictures)
  status, _, error, files = command(maml, *TINY, *arguments)
  assert status == 2 and re.fullmatch(f"error: .*{message}.*\n", error), error
  assert not files


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--data", "no_such_set"], r"data set 'no_such_set' not found: .*--download"),
    (["--split", "lake"], r"split.*'lake/train'.*expected one of .*train"),
    (["--data", "omniglot", "--split", "murky"], r"unknown split 'murky/train' of omniglot: .*lake/train"),
  ],
)
def test_unknown_data_or_split_gives_one_line_that_says_what_there_is(
  command, monkeypatch, tmp_path, arguments, message
):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
  status, _, error, files = command(maml, *TINY, *arguments)
  assert status == 2 and re.fullmatch(f"error: .*{message}.*\n", error), error
  assert not files


def test_parts_that_share_a_class_are_refused(command, monkeypatch):
  monkeypatch.setattr(few_shot, "load", lambda name, split, **flags: pictures(name, "train"))
  status, _, error, files = command(maml, *TINY)
  assert status == 2 and "no class of train in validation, got 10 of glyphs in both, such as 'train 0'" in error
  assert not files


def test_records_of_other_settings_are_kept(command, monkeypatch, tmp_path):
  monkeypatch.setattr(few_shot, "load", pictures)
  for ways in ("3", "4"):
    command(maml, *TINY, "--ways", ways, "--record")
  found = json.loads((tmp_path / "experiments" / "results" / "maml-glyphs.json").read_text())
  assert [(r["learner"], r["ways"]) for r in found] == [("maml", 3), ("pixels", 3), ("maml", 4), ("pixels", 4)]


def test_an_output_that_cannot_be_written_is_found_before_training(command, monkeypatch, tmp_path):
  monkeypatch.setattr(few_shot, "load", pictures)
  (tmp_path / "runs").write_text("a file, not a folder")
  status, _, error, files = command(maml, *TINY)
  assert status == 2 and re.fullmatch(r"error: expected a folder that can be written for the output .*\n", error), error
  assert files == ["runs"]


def test_an_error_that_is_not_ours_keeps_its_traceback(command, monkeypatch):
  monkeypatch.setattr(few_shot, "load", lambda *a, **k: np.zeros(2).reshape(3))
  with pytest.raises(ValueError, match="reshape"):
    command(maml, *TINY)


def test_sine_waves_are_a_pure_function_of_the_step_and_hosts_share_them():
  waves = sinusoid.sine_waves(10, 4, seed=3)
  whole, late = next(waves(2)), [b for b, _ in zip(waves(), range(3), strict=False)][2]
  parts = [next(waves(2, (host, 2))) for host in range(2)]
  for a, b, *c in zip(*map(jax.tree.leaves, (whole, late, *parts)), strict=True):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, np.concatenate(c))
  assert whole.support.inputs.shape == (4, 10, 1) and np.abs(whole.query.labels).max() <= 5


def test_sinusoid_ends_with_its_errors_records_and_figure(command):
  status, out, _, files = command(sinusoid, "--steps", "20", "--tasks", "5", "--test-tasks", "25", "--hidden", "8")
  assert status == 0 and files == ["curves.png", "records.json"]
  assert len(re.findall(r"^  .+ [\d.]+ ± [\d.]+", out, re.MULTILINE)) == 5


@pytest.mark.slow
def test_sinusoid_is_regressed_in_one_step(command):
  _, out, _, _ = command(sinusoid)
  errors = {k: float(v) for k, v in re.findall(r"  (.+?)  +([\d.]+) ±", out)}
  assert errors["maml, after 1 step"] < errors["maml, before"] / 3
  assert errors["maml, after 1 step"] < 0.5 * errors["joint pre-training, after 1 step"]
