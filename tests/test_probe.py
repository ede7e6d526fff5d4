"""A published encoder without training: `experiments.probe`, and `experiments.fine_tune --encoder`."""

from functools import partial

import commands
import numpy as np
import published_encoders as published
import pytest
from PIL import Image

from experiments import fine_tune, probe
from metajax.experiment import records
from metajax.networks import load_encoder


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
  return published.write(tmp_path_factory.mktemp("dino"), published.dinov2(), published.DINOV2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Ten classes of ten images, each of a mean color."""
  folder, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
  for name in range(10):
    (folder / f"c{name}").mkdir()
    color = draw.integers(0, 160, 3)
    for image in range(10):
      pixels = (color + draw.integers(0, 60, (12, 12, 3))).astype(np.uint8)
      Image.fromarray(pixels).save(folder / f"c{name}" / f"{image}.png")
  return folder


@pytest.fixture
def published_records(monkeypatch):
  found = []
  monkeypatch.setattr(records, "publish", lambda folder, name, written: found.append((name, written)))
  return found


def run(monkeypatch, capsys, module, *arguments):
  main = partial(commands.run_command, module)
  return commands.run(monkeypatch, capsys, module.__name__.rpartition(".")[2], main, *map(str, arguments))


def test_an_encoder_is_probed_beside_its_random_params_and_pixels(dino, photos, published_records, monkeypatch, capsys):
  arguments = ["--encoder", dino, "--data", photos, "--test", "2w1s", "--test-tasks", 4, "--devices", 1, "--record"]
  status, _, error = run(monkeypatch, capsys, probe, *arguments)
  assert (status, error) == (0, ""), error
  ((name, found),) = published_records
  assert name == f"probe-{photos.name}"
  measures = {(one["learner"], one["measure"]) for one in found}
  assert {(dino.name, "linear_probe"), ("random encoder", "knn"), ("pixels", "accuracy")} <= measures
  assert all(0 <= one["value"] <= 100 for one in found)


def test_features_of_probes_are_those_of_the_published_network(dino, photos):
  start = probe.Start(dino)
  parts = probe.load_parts(probe.ImageData(str(photos), size=8), "auto", load_encoder(dino).preprocessing)
  trained, random = probe._representations(start, parts)
  found, images = load_encoder(dino), parts.test.images[:3] / np.float32(255)
  wanted = found.network.apply(found.params, found.state, images, train=False)[0]
  own = trained.embed(trained.states[0].params, trained.states[0].state, images)
  np.testing.assert_allclose(own, wanted, rtol=1e-5, atol=1e-5)
  assert not np.allclose(random.embed(random.states[0].params, random.states[0].state, images), wanted, atol=0.01)


@pytest.mark.slow
def test_an_encoder_is_fine_tuned_with_few_labels(dino, photos, published_records, monkeypatch, capsys):
  arguments = ["--encoder", dino, "--data", photos, "--labels", 1.0, "--learning-rates", 1e-3, "--steps", 2]
  arguments += ["--validations", 1, "--batch-size", 4, "--devices", 1, "--record"]
  status, _, error = run(monkeypatch, capsys, fine_tune, *arguments)
  assert status == 0, error
  ((name, found),) = published_records
  assert name == f"fine_tuned-{dino.name}-{photos.name}"
  assert [one["learner"] for one in found] == [f"{dino.name}, fine-tuned", "from scratch"]


def test_what_does_not_go_together_is_said_in_one_line(dino, photos, monkeypatch, capsys):
  for module, arguments, said in (
    (probe, ["--encoder", photos, "--data", photos], "expected"),
    (probe, ["--encoder", dino, "--data", photos, "--test", "2x"], "2x"),
    (fine_tune, ["--encoder", dino], "expected --encoder with --data and without run folders, got None and 0"),
    (fine_tune, ["run", "--encoder", dino, "--data", photos], "without run folders"),
    (fine_tune, ["run", "--data", photos], "expected run folders, or --encoder with --data"),
    (fine_tune, [], "expected run folders, or --encoder with --data"),
  ):
    status, _, error = run(monkeypatch, capsys, module, *arguments)
    assert status == 2 and said in error and error.count("\n") == 1, error
