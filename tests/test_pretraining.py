"""The pretraining commands: what they do at their smallest, what they compare, and one clear line for bad input."""

import functools
import json
import re

import commands
import few_programs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import fine_tune, simclr
from experiments.families import data, representation
from experiments.families.data import ImageData
from experiments.families.few_shot import tasks as few_shot
from experiments.families.representation import experiment
from experiments.families.representation.data import ProbeSplits, load_parts
from experiments.families.representation.evaluators import few_shot_tests
from metajax import Examples, Network
from metajax.augment import image
from metajax.data import episodes, from_arrays, load, train_batches
from metajax.experiment import records
from metajax.experiment.evaluators.probes import few_shot_all
from metajax.learners import supervised
from metajax.train import TrainState
from metajax.types import Preprocessing

TINY = ["--encoder-name", "conv4", "--width", "0.0625", "--hidden", "8", "--num-outputs", "4", "--size", "16"]
TINY += ["--batch-size", "8", "--steps", "4", "--warmup-steps", "1", "--curve-every", "2", "--optimizer", "adamw"]
TINY += ["--devices", "2", "--checkpoint-every", "4"]
TINY += ["--test-queries", "2", "--test-tasks", "4", "--test", "3w1s", "--learning-rate", "1e-3"]
TINY += ["--recipe", "handwriting"]


def synthetic_set(name, split="train", *, size=28, download=False, rotations=False, skip_unreadable=False, **kept):
  """Four classes of ten images: what `load` gives. Own splits have the same classes, other parts their own."""
  seed = sum(map(ord, split))
  images = np.random.default_rng(seed).integers(0, 256, (40, size, size, 3 if name == "photos" else 1), np.uint8)
  named = "official" if split.startswith("official") else split
  return from_arrays(images, np.repeat(np.arange(4), 10), classes=[f"{named} {k}" for k in range(4)])


def brighter(key, image):
  """A view that compiles quickly."""
  return image * jax.random.uniform(key, (), minval=0.5)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
  """Runs a command, of few programs: (its status, its standard output, its standard error)."""
  monkeypatch.setattr(records, "home", lambda command: tmp_path / "experiments")
  monkeypatch.setattr(data, "load", synthetic_set)
  monkeypatch.setattr(image, "handwriting", lambda: brighter)
  few_programs.use(monkeypatch)

  def run(module, *arguments):
    main = functools.partial(commands.run_command, module)
    return commands.run(monkeypatch, capsys, module.__name__, main, *arguments)

  return run


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_compares_its_features_and_fine_tunes_beside_training_from_scratch(command, tmp_path, seeds):
  folder = tmp_path / "run"
  status, out, error = command(simclr, *TINY, "--seeds", str(seeds), "--folder", str(folder), "--record")
  assert status == 0, error
  assert "glyphs: 40 images without labels for pretraining; 4 classes (unseen in pretraining): " in out
  assert re.search(r"^trained for \d+ s on \d device\(s\), [\d.]+% of the time waiting for data$", out, re.MULTILINE)
  for name in ("simclr", "simclr, after the head", "random encoder", "pixels"):
    assert re.search(rf"^  {name} +[\d.]+ ± [\d.]+% +[\d.]+ ± [\d.]+%$", out, re.MULTILINE), name
  written = json.loads((folder / "records.json").read_text())
  assert [(r["learner"], r["measure"]) for r in written if r["measure"] != "accuracy"] == [
    (name, measure)
    for name in ("simclr", "simclr, after the head", "random encoder", "pixels")
    for measure in ("linear_probe", "knn")
  ]
  assert {r["learner"] for r in written if r["measure"] == "accuracy"} == {"simclr", "random encoder", "pixels"}
  curves = [f"learning_curves-seed-{seed}.png" for seed in range(seeds)] if seeds > 1 else ["learning_curves.png"]
  assert sorted(path.name for path in (folder / "figures").iterdir()) == [*curves, "map.png", "views.png"]
  assert len((folder / "index.html").read_text()) > 10_000

  flags = ["--labels", "0.2", "--steps", "2", "--learning-rates", "1e-3", "--batch-size", "4", "--validations", "1"]
  flags += ["--devices", "2"]
  status, out, error = command(fine_tune, str(folder), *flags, "--record")
  assert status == 0, error
  assert re.findall(r"^([\d.]+)% of the labels, (\d+) images", out, re.MULTILINE) == [("20", "4")]
  assert len(re.findall(r"^  (?:simclr, fine-tuned|from scratch) +[\d.]+ ± [\d.]+%", out, re.MULTILINE)) == 2
  page = (records.home(None) / "README.md").read_text()
  assert "| linear probe | nearest neighbors | end-to-end training, 20% of labels |" in page
  assert "## glyphs, test, held-out images: accuracy on 12 images of 4 classes" in page


def test_parts_share_no_image_and_classes_are_the_same_or_unseen(monkeypatch):
  monkeypatch.setattr(data, "load", synthetic_set)
  photos = data.ImageData(data="photos", size=8)
  same = load_parts(photos, "auto")
  assert not same.unseen and same.episodes is same.test
  assert [len(part.labels) for part in same[:4]] == [40, 36, 4, 40]
  apart = load_parts(photos, "unseen")
  assert apart.unseen and set(apart.unlabeled.classes).isdisjoint(apart.test.classes)
  assert [len(part.labels) for part in apart[:4]] == [40, 20, 8, 12] and len(apart.episodes.labels) == 40
  parts = [part.images.reshape(len(part.images), -1).tobytes() for part in apart[1:4]]
  assert len(set(parts)) == 3


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--batch-size", "1"], "expected --batch-size to be at least 2, got 1"),
    (
      ["--batch-size", "41", "--devices", "1"],
      "expected a --batch-size of at most all images, got 41 of 40 images",
    ),
    (["--learning-rate", "0"], "expected --learning-rate above 0, got 0.0"),
    (["--temperature", "0"], "expected --temperature above 0, got 0.0"),
    (["--warmup-steps", "4"], "expected --warmup-steps to be below the 4 --steps, got 4"),
    (["--seeds", "0"], "expected --seeds to be at least 1, got 0"),
    (["--encoder-name", "vit_s", "--patch", "5"], "expected images that divide into patches of 5, got (16, 16)"),
  ],
)
def test_bad_input_is_one_line_and_nothing_is_written(command, tmp_path, flags, said):
  status, _, error = command(simclr, *TINY, *flags, "--folder", str(tmp_path / "run"))
  assert (status, error.strip()) == (2, f"error: {said}")
  assert not (tmp_path / "run").exists()


def test_views_are_cut_from_original_files_and_tests_see_their_centers(command, monkeypatch, tmp_path):
  for i in range(32):
    there = tmp_path / "photos" / f"class{i % 4}"
    there.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(i).integers(0, 256, (24, 40, 3), np.uint8)
    Image.fromarray(pixels).save(there / f"{i}.jpg")
  seen = []
  monkeypatch.setattr(data, "load", lambda *name, **how: seen.append(load(*name, **how)) or seen[-1])
  monkeypatch.setattr(experiment, "train_batches", train_batches)
  monkeypatch.setattr(image, "simclr_cifar", lambda crop=True: brighter)
  flags = ["--augmentation", "simclr_cifar", "--crop-from", "original", "--data", str(tmp_path / "photos")]
  flags += ["--train-on-all", "--test", "3w1s", "--test-queries", "1", "--folder", str(tmp_path / "run")]
  status, _, error = command(simclr, *TINY, *flags)
  assert status == 0, error
  assert all(part.images.have_originals and part.images.shape[1:] == (16, 16, 3) for part in seen)
  config = simclr.Config(augmentation="simclr_cifar", crop_from="original")
  own = simclr.build(config._replace(setup=config.setup._replace(data=ImageData(str(tmp_path / "photos"), size=224))))
  assert own.preprocessing == Preprocessing(224, "shortest", 256, "bilinear")  # of the export
  status, _, error = command(simclr, *TINY, "--crop-from", "original", "--data", str(tmp_path / "photos"))
  assert status == 2 and "expected --augmentation simclr or simclr_cifar with --crop-from original" in error


def test_tests_that_the_data_are_too_few_for_are_refused_before_training(command, monkeypatch, tmp_path):
  monkeypatch.setattr(few_shot, "episodes", episodes)
  status, out, error = command(simclr, *TINY, "--test", "5w1s", "--folder", str(tmp_path / "run"))
  assert status == 2 and "--test, --test-queries" in error and error.count("\n") == 1
  assert "step 1" not in out and not (tmp_path / "run").exists()


def test_what_cannot_be_fine_tuned_is_refused(command, tmp_path):
  for flags, said in (
    ([str(tmp_path)], "expected the folder of a run"),
    ([str(tmp_path), "--labels", "0"], "expected --labels above 0, got 0.0"),
    ([str(tmp_path), "--learning-rates", "-1"], "expected --learning-rates above 0, got -1.0"),
  ):
    status, _, error = command(fine_tune, *flags)
    assert status == 2 and said in error and error.count("\n") == 1


def test_few_shot_tasks_of_features_are_those_of_images():
  source = synthetic_set("glyphs", size=8)
  encoder = Network(
    lambda key, x: ({"weight": jax.random.normal(key, (64, 5))}, {}),
    lambda params, state, x, **_: (jnp.tanh(x.reshape(len(x), -1) @ params["weight"]), state),
  )
  learner = supervised(encoder)
  probing = representation.Probing(test=("3w2s",), test_tasks=40, test_queries=4)
  tests = few_shot_tests(representation.ImageData(), probing, ProbeSplits(source, source, source, source, True, source))
  init = jax.jit(lambda key: learner.init(key, Examples(np.zeros((2, 8, 8, 1)), np.eye(2))))
  trained = [TrainState(*init(jax.random.key(seed)), None, None, 0) for seed in range(2)]
  of_images, of_features = (
    map(records.flat, few_shot_all({"supervised": (learner, trained)}, tests, {"seed": 0, "train_seconds": 0}, frozen))
    for frozen in (None, source)
  )
  keys = ("learner", "policy", "ways", "shots", "value", "interval")
  of_images, of_features = ([[r[key] for key in keys] for r in some] for some in (of_images, of_features))
  assert of_features and of_features == of_images
