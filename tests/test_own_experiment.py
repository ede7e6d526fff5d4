"""Experiments of one's own, outside of this repository: a file with a `build` has all that the commands here have."""

import importlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import built_wheel
import few_programs
import numpy as np
import pytest
from PIL import Image

from experiments.families import data
from metajax.data import from_arrays
from metajax.experiment import driver
from metajax.experiment.results_page import build_page

ROOT = Path(__file__).resolve().parent.parent
(README,) = re.findall(
  r'```python\n("""My prototypical.*?)```', (ROOT / "docs/how_to/own_experiment.md").read_text(), re.DOTALL
)
FEW_SHOT = '''"""Ridge regression on features, with a penalty of my own."""

from typing import NamedTuple

from experiments.families import few_shot as fs
from metajax.learners import r2d2


class Config(NamedTuple):
  """R2-D2 with another penalty."""

  l2: float = 0.5
  """Of the penalty."""
  network: fs.Adapted = fs.Adapted()
  setup: fs.Setup = fs.Setup()


def build(config: Config) -> fs.Experiment:
  encoder = fs.adapted_encoder(config.network)
  learner = r2d2(encoder, query_norm=config.network.query_norm, l2=config.l2)
  return fs.few_shot_experiment(config.setup, "own", learner, [fs.EvalMode("own", learner)])


if __name__ == "__main__":
  fs.main(build)
'''
PRETRAINING = '''"""SimCLR with one crop of my own."""

from typing import NamedTuple

from experiments.families import representation as rep
from metajax.learners import simclr
from metajax.networks import projection_head
from metajax.augment.image import random_resized_crop


class Config(NamedTuple):
  """SimCLR with crops alone."""

  area: float = 0.5
  """Least share of an image that a crop has."""
  encoder: rep.EncoderFlags = rep.EncoderFlags("conv4")
  setup: rep.Setup = rep.Setup()


PRESETS = {"default": Config(), "small": Config(setup=rep.Setup(outer=rep.Outer(8, "adamw", 1e-3, warmup_steps=1)))}


def build(config: Config) -> rep.Experiment:
  network, view = rep.encoder_of(config.encoder), random_resized_crop(area=(config.area, 1.0))
  learner = simclr(network, projection_head(8, 4), view)
  return rep.representation_experiment(config.setup, "own", learner, network, draw=rep.views(view))


if __name__ == "__main__":
  rep.main(build, PRESETS)
'''
TASKS = ["--size", "16", "--test", "3w1s", "--test-queries", "2", "--test-tasks", "4", "--steps", "2", "--devices", "1"]
OWN = {
  "few_shot": (FEW_SHOT, 40, [*TASKS, "--filters", "4", "--ways", "3", "--queries", "2", "--tasks", "2",
                              "--validation-tasks", "4"]),
  "pretraining": (PRETRAINING, 60, [*TASKS, "--budget", "small", "--width", "0.0625"]),
}  # fmt: skip


def synthetic_set(name, split="train", *, size, **kept):
  """Ten classes of six images: what `load` gives, without drawing or reading anything."""
  images = np.random.default_rng(len(split)).integers(0, 256, (60, size, size, 1), np.uint8)
  return from_arrays(images, np.repeat(np.arange(10), 6), classes=[f"{split} {k}" for k in range(10)])


@pytest.mark.parametrize("kind", OWN)
def test_a_new_experiment_is_a_page_and_runs_to_its_own(monkeypatch, tmp_path, kind):
  code, most, flags = OWN[kind]
  assert len(code.splitlines()) <= most
  (tmp_path / f"own_{kind}.py").write_text(code)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(data, "load", synthetic_set)
  few_programs.use(monkeypatch)
  module = importlib.import_module(f"own_{kind}")
  monkeypatch.setattr(sys, "argv", [f"own_{kind}", *flags, "--folder", "run"])
  driver.main(module.build, getattr(module, "PRESETS", None))
  assert json.loads(Path("run/records.json").read_text())[0]["learner"] == "own"
  assert "own on glyphs" in Path("run/index.html").read_text()
  assert json.loads(Path("run/run.json").read_text())["experiment"] == f"own_{kind}"


def test_a_readme_of_ones_own_stays_and_a_results_page_is_made_anew(tmp_path):
  said = {"learner": "mine", "measure": "agreement", "value": 1.0, "interval": None, "published": None, "seed": 0}
  said |= {"command": "python -m mine", "machine": "", "versions": {"jax": ""}}
  (tmp_path / "results").mkdir()
  for readme, page in ((None, "README.md"), ("# My work", "results/README.md")):
    if readme:
      (tmp_path / "README.md").write_text(readme)
    for value in (1.0, 2.0):
      assert build_page(tmp_path, {"mine": [said | {"value": value}]}) == tmp_path / page
      assert f"| mine |  | {value:g} |" in (tmp_path / page).read_text()
  assert (tmp_path / "README.md").read_text() == "# My work"


def rows_of(page):
  """The rows of the page's only table, by column."""
  header, _, *rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
  cells = lambda line: [cell.strip() for cell in line.strip("|").split("|")]
  return [list(zip(cells(header), cells(row), strict=True)) for row in rows]


def test_a_page_compares_with_published_figures_of_today_and_says_the_encoder(tmp_path):
  """Old records, which had no figure and no encoder, are compared too."""
  said = {"measure": "accuracy", "data": "d", "ways": 5, "shots": 1, "interval": 0.25, "published": None, "seed": 0}
  said |= {"command": "python -m mine", "machine": "2 of 8 CPU cores", "devices": 2, "versions": {"jax": "1"}}
  said |= {"steps": 10, "train_seconds": 90}
  new = {
    "encoder": "conv4-64, stride",
    "image_size": 28,
    "features": 64,
    "params": 111936,
    "trained_on": "5-way 1-shot",
  }
  results = [said | {"learner": "a, centered", "policy": "p", "value": 91.25} | new]
  results += [
    said | {"learner": "a", "policy": "q", "value": 90.0},
    said | {"learner": "b", "policy": "p", "value": 80},
  ]
  figures = [{"learner": "a", "policy": "p", "measure": "accuracy", "data": "d", "ways": 5, "shots": 1, "value": 95.5}]
  figures += [{"learner": "b", "measure": "accuracy", "value": 79}, {"learner": "b", "data": "e", "value": 1}]
  (tmp_path / "published.json").write_text(json.dumps(figures))
  page = build_page(tmp_path, {"mine": results})
  wanted = {"a, centered": "95.5 (-4.2)", "a": "", "b": "79 (+1.0)"}
  rows = rows_of(page)
  assert {dict(row)["learner"]: dict(row)["published (gap)"] for row in rows} == wanted
  one, old, _ = map(dict, rows)
  assert one["5-way 1-shot"] == "91.25 ± 0.25" and one["trained"] == "1.5 min, 10 steps, 5-way 1-shot tasks"
  assert [one[name] for name in ("encoder", "image size", "features", "params")] == [
    "conv4-64, stride",
    "28",
    "64",
    "111,936",
  ]
  assert old["encoder"] == old["params"] == ""
  assert "(seed 0, 2 of 8 CPU cores, 2 devices, jax 1)" in page.read_text()
  for odd in ({"learner": "a"}, {"value": 1}, "a", {"learner": "a", "value": "high"}):
    (tmp_path / "published.json").write_text(json.dumps([odd]))
    with pytest.raises(ValueError, match=r"expected figures with a learner and a value in .*published\.json', got "):
      build_page(tmp_path, {"mine": results})


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """The wheel's content, as it lies where it is installed."""
  folder = tmp_path_factory.mktemp("wheel")
  with zipfile.ZipFile(built_wheel.build(folder)) as content:
    content.extractall(folder / "site")
  return folder / "site"


@pytest.mark.slow
def test_the_readmes_experiment_runs_by_the_wheel_alone_is_stopped_gone_on_with_and_evaluated(installed, tmp_path):
  assert not list(installed.glob("experiments*")) and (installed / "metajax" / "experiment").is_dir()
  (tmp_path / "my_experiment.py").write_text(README)
  environment = {**os.environ, "PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}

  def run(*arguments):
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout

  where = run("-c", "import metajax; print(metajax.__file__)")
  assert where.startswith(str(installed))
  out = run("my_experiment.py", "--budget", "quick", "--folder", "runs/mine", "--seeds", "2", "--record")
  (score,) = re.findall(r"^  mine \(none\) +([\d.]+ ± [\d.]+)%$", out, re.MULTILINE)
  assert (tmp_path / "runs/mine/index.html").exists() and (tmp_path / "results/mine.json").exists()
  assert "mine" in (tmp_path / "README.md").read_text()
  again = run("my_experiment.py", "--folder", "runs/mine", "--resume")
  evaluated = run("-m", "metajax.experiment.evaluate", "runs/mine", "--modules", "my_experiment")
  assert score in again and score in evaluated

  for kind in range(4):
    for name in (
      (f"my_classes/{kind}/{i}.jpg" for i in range(2)) if kind < 3 else ("new_photos/1.jpg", "new_photos/2.jpg")
    ):
      (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
      pixels = np.random.default_rng(kind).integers(0, 256, (20 + kind, 30, 3)).astype(np.uint8)
      Image.fromarray(pixels).save(tmp_path / name)
  block = r"```python\n(import metajax\n\nmodel = metajax.load.*?)```"
  (prediction,) = re.findall(block, (ROOT / "docs/how_to/predictions.md").read_text(), re.DOTALL)
  assert run("-c", prediction + "\nprint(probabilities.shape, len(labels), features.shape[0])").endswith("(2, 3) 2 2\n")
  labeled = run("-m", "metajax.cli.predict", "runs/mine", "--support", "my_classes", "--images", "new_photos")
  assert "2 images" in labeled and (tmp_path / "labels.csv").exists() and (tmp_path / "labels.html").exists()


def test_one_driver_starts_all_that_trains_and_flags_are_read_by_their_names():
  code = {path: path.read_text() for path in (ROOT / "experiments").rglob("*.py")}
  for word in ("set_mesh", "locals()", 'flags["', "flags['"):
    assert not [str(path) for path, text in code.items() if word in text], word
  assert (
    sum(text.count("set_mesh(") for text in (p.read_text() for p in (ROOT / "metajax/experiment").rglob("*.py"))) == 1
  )


def test_every_file_beside_the_families_is_a_command():
  for path in (ROOT / "experiments").glob("[!_]*.py"):
    assert '\nif __name__ == "__main__":\n' in path.read_text(), path.name
