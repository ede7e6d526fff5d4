"""`experiments.few_labels`: one table of all methods, on published weights and a folder of images."""

import commands
import numpy as np
import published_clips as published
import pytest
from PIL import Image

from experiments import few_labels
from experiments.families.image_text.few_labels import METHODS
from metajax.experiment import command_line, records


@pytest.fixture
def clip(tmp_path):
  return published.of_bytes(tmp_path / "model")


@pytest.fixture
def photos(tmp_path):
  for i, name in enumerate(("a", "b", "c", "few")):
    (tmp_path / "photos" / name).mkdir(parents=True)
    for image in range(1 if name == "few" else 4):
      pixels = np.random.default_rng(10 * i + image).integers(0, 90, (12, 12, 3)) + 50 * i
      Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{image}.png")
  return tmp_path / "photos"


@pytest.fixture
def run(monkeypatch, capsys):
  def run(*arguments):
    main = lambda: command_line.command(few_labels.main)
    return commands.run(monkeypatch, capsys, "few_labels", main, *map(str, arguments))

  return run


SIZES = ["--ways", "2", "--queries", "2", "--num-tasks", "2", "--devices", "1"]


@pytest.mark.slow
def test_every_method_is_tested_on_the_same_tasks_and_recorded(clip, photos, run, tmp_path, monkeypatch):
  monkeypatch.setattr(records, "home", lambda main: tmp_path)
  status, out, error = run(clip, "--data", photos, "--shots", 1, 2, "--context", 1, *SIZES, "--record")
  assert (status, error) == (0, ""), error
  assert "left out 1 of 4 classes of fewer than 4 images" in out
  found = records.read(tmp_path / "results" / "few_labels-photos.json")
  assert out.count("2-way") == 2 and "clip, lp_plus_plus" in (tmp_path / "README.md").read_text()
  accuracy = {(one["learner"], one["shots"]): one for one in found if one["measure"] == "accuracy"}
  assert set(accuracy) == {(f"clip, {method}", shots) for method in METHODS for shots in (1, 2)}
  leads = [one for one in found if one["measure"] == "points_ahead_of_zero_shot"]
  for one in leads:
    own, zero = accuracy[one["learner"], one["shots"]], accuracy["clip, zero_shot", one["shots"]]
    assert one["value"] == pytest.approx(own["value"] - zero["value"], abs=0.02)
  assert len(leads) == 2 * (len(METHODS) - 1)


def test_zero_shot_does_not_depend_on_the_shots(clip, photos, run):
  status, out, error = run(clip, "--data", photos, "--methods", "zero_shot", "--shots", 1, 2, *SIZES)
  assert (status, error) == (0, ""), error
  assert out.splitlines()[-1].startswith("zero_shot")


def test_what_cannot_be_is_said_in_one_line(clip, photos, run):
  data = ["--data", photos, *SIZES]
  for arguments, said in (
    (SIZES, "expected --data with published weights"),
    ([*data, "--shots", 9], "expected classes of at least 11 images, for the support and the queries, got none"),
    ([*data, "--shots", 1, "--context", 60], "tokens beside --context 60, got one of 3"),
    ([*data, "--shots", 1, "--ways", 5], "expected from 2 ways to the 3 classes of the source, got 5"),
    ([*data, "--methods", "magic"], "magic"),
  ):
    status, _, error = run(clip, *arguments)
    assert status == 2 and said in error and error.count("\n") == 1, error
