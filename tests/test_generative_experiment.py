"""The generative command: texts, pixels and patches; what it records beside models that only count, and shows."""

import json
import re

import pytest
from test_pretraining import command, synthetic_set  # noqa: F401  (fixtures)

from experiments import fine_tune, generative
from experiments.families.language import experiment as language
from metajax.experiment import headlines, records

TINY = [
  "--width",
  "8",
  "--num-layers",
  "1",
  "--num-heads",
  "2",
  "--batch-size",
  "8",
  "--steps",
  "4",
  "--warmup-steps",
  "1",
]
TINY += ["--devices", "2", "--checkpoint-every", "4"]
TINY += ["--curve-every", "2", "--optimizer", "adamw", "--learning-rate", "1e-3", "--size", "16"]
OF_IMAGES = ["--test-queries", "2", "--test-tasks", "4", "--test", "2w1s"]


@pytest.fixture
def run(command, tmp_path):  # noqa: F811
  return lambda *flags: command(generative, *TINY, *flags, "--folder", str(tmp_path / "run"))


@pytest.mark.parametrize(
  ("model", "more", "measure", "figures"),
  [
    ("image_gpt", ("--pixels", "6", "--palette-size", "4"), "bits_per_pixel", ["halves.png", "samples.png"]),
    pytest.param("mae", ("--patch", "4", "--decoder-width", "8", "--decoder-layers", "1"), "reconstruction_error",
                 ["reconstructions.png"], marks=pytest.mark.slow),
  ],
)  # fmt: skip
def test_a_model_of_images_is_compared_with_counts_and_probed(run, tmp_path, model, more, measure, figures):
  status, out, error = run("--model", model, *more, *OF_IMAGES, "--record")
  assert status == 0, error
  name = {"image_gpt": "image gpt", "mae": "masked autoencoder"}[model]
  assert re.search(rf"^  {name} +[\d.]+ ± [\d.]+$", out, re.MULTILINE)
  assert ("k-NN accuracy on validation images by layer: 0: " in out) == (model == "image_gpt")
  written = json.loads((tmp_path / "run" / "records.json").read_text())
  first = [r for r in written if r["measure"] == measure]
  assert first[0]["learner"] == name and first[0]["steps"] == 4 and all(r["steps"] == 0 for r in first[1:])
  probed = {(r["learner"], r["measure"]) for r in written}
  assert {(who, what) for who in (name, "random encoder", "pixels") for what in ("linear_probe", "knn")} <= probed
  assert {r["learner"] for r in written if r.get("ways")} == {name, "random encoder", "pixels"}
  there = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
  assert {*figures, "learning_curves.png", "map.png"} <= there
  assert first[0]["of"] in (records.home(None) / "README.md").read_text()
  assert f"{first[0]['of']}; lower is better" in (tmp_path / "run" / "index.html").read_text()


def test_the_tile_of_a_likelihood_says_of_what_it_is_and_that_lower_is_better():
  said = {"measure": "bits_per_pixel", "of": "6 x 6 pixels", "split": "test", "chance": 2.0, "interval": None}
  own, counted = {"learner": "image gpt", "steps": 4, "value": 1.5}, {"learner": "alone", "steps": 0, "value": 1.75}
  (tile,) = headlines.tiles([said | own, said | counted])
  assert tile == ("Bits per pixel", "1.5", "chance 2, alone 1.75, 6 x 6 pixels; lower is better")


TEXT = ["--model", "gpt", "--vocab-size", "300", "--max-length", "12"]


def test_a_gpt_of_a_file_is_compared_with_a_bigram_model(run, monkeypatch, tmp_path):
  monkeypatch.setattr(language, "WRITTEN", 0)  # each length of a prompt traces the network
  (tmp_path / "book.txt").write_text("".join(f"Verse {i}: and so it went on.\n" for i in range(90)))
  flags = ["--steps", "2", "--devices", "1", "--prompts", "Verse 7"]
  status, out, error = run(*TEXT, "--data", str(tmp_path / "book.txt"), *flags)
  assert status == 0, error
  assert re.search(r"bigram, smoothed +[\d.]+ ± [\d.]+ bits per token", out) and "Verse 7 → " in out
  written = json.loads((tmp_path / "run" / "records.json").read_text())
  assert [r["learner"] for r in written] == ["gpt"] * 2 + ["bigram, smoothed"] * 2


@pytest.mark.slow
def test_a_gpt_of_a_file_is_compared_with_a_bigram_model_and_writes(run, tmp_path):
  (tmp_path / "book.txt").write_text("".join(f"Verse {i}: and so it went on.\n" for i in range(90)))
  status, out, error = run(*TEXT, "--data", str(tmp_path / "book.txt"), "--prompts", "Verse 7", "Verse 8")
  assert status == 0, error
  assert re.search(r"bigram, smoothed +[\d.]+ ± [\d.]+ bits per token", out)
  assert re.search(r"texts longer than a row continue in \d+ more rows", out)
  assert re.search(r"completions\n  Verse 7 → ", out)
  written = json.loads((tmp_path / "run" / "records.json").read_text())
  assert [(r["learner"], r["measure"]) for r in written] == [
    (who, what) for who in ("gpt", "bigram, smoothed") for what in ("bits_per_token", "bits_per_character")
  ]
  page = (tmp_path / "run" / "index.html").read_text()
  assert "Samples" in page and "Verse 8 → " in page
  again = run("--resume", "--prompts", "Verse 9", "--temperature", "0")
  assert again[0] == 0, again[2]
  assert "Verse 9 → " in again[1]
  (tmp_path / "book.txt").write_text("".join(f"Line {i}: but it came otherwise.\n" for i in range(90)))
  status, _, error = run("--resume")
  assert status == 2 and re.search(r"the training data of the run in .*, got others: tokenizer\.json differs", error)
  assert json.loads((tmp_path / "run" / "records.json").read_text())[0]["value"] == written[0]["value"]


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ((*TEXT, "--data", "empty.txt"), "got 0 characters"),
    (("--model", "mae", "--data", "empty.txt"), "expected --model gpt of a text file"),
    ((*TEXT, "--data", "glyphs", "--warmup-steps", "9"), "expected --warmup-steps to be below the 4 --steps, got 9"),
    ((*TEXT, "--data", "glyphs", "--optimizer", "lars"), "--optimizer adamw for gpt, got 'lars'"),
    ((*TEXT, "--data", "glyphs", "--temperature", "-1"), "expected --temperature to be at least 0, got -1.0"),
    ((*TEXT, "--data", "glyphs", "--max-length", "1"), "expected --max-length to be at least 2, got 1"),
    (("--model", "mae", "--patch", "5"), "divide into patches of 5"),
    (("--model", "mae", "--mask-ratio", "1"), "expected --mask-ratio below 1, got 1.0"),
    (("--model", "image_gpt", "--palette-size", "1"), "expected --palette-size to be at least 2, got 1"),
    (("--model", "image_gpt", "--num-heads", "3"), "a width divisible by the number of heads"),
  ],
)
def test_what_cannot_be_trained_is_refused_in_a_line_and_nothing_is_written(run, tmp_path, flags, message):
  (tmp_path / "empty.txt").touch()
  status, _, error = run(*(str(tmp_path / flag) if flag == "empty.txt" else flag for flag in flags))
  assert status == 2 and message in error and error.startswith("error: ") and error.count("\n") == 1
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["image_gpt", "mae"])
def test_a_run_of_images_is_gone_on_with_to_the_same_and_fine_tuned(run, command, tmp_path, model):  # noqa: F811
  more = {
    "image_gpt": ("--pixels", "6", "--palette-size", "4"),
    "mae": ("--patch", "4", "--decoder-width", "8", "--decoder-layers", "1"),
  }
  assert run("--model", model, *more[model], *OF_IMAGES)[0] == 0
  written = (tmp_path / "run" / "records.json").read_text()
  assert run("--resume")[0] == 0
  again = (tmp_path / "run" / "records.json").read_text()
  assert [r["value"] for r in json.loads(again)] == [r["value"] for r in json.loads(written)]
  flags = ["--labels", "1.0", "--steps", "4", "--batch-size", "4", "--validations", "2", "--learning-rates", "0.01"]
  status, out, error = command(fine_tune, str(tmp_path / "run"), *flags)
  assert status == 0, error
  assert re.search(r", fine-tuned +[\d.]+ ± [\d.]+", out) and re.search(r"from scratch +[\d.]+ ± [\d.]+", out)
