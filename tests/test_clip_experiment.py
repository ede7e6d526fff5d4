"""The CLIP commands at their smallest: what they hold out, what they compare, and one clear line for bad input."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image
from test_pretraining import command, synthetic_set  # noqa: F401  (a fixture)

from experiments import clip, fine_tune, zero_shot
from experiments.families import data
from experiments.families.image_text.data import FAMILY, held_out_combinations
from metajax.data import from_arrays
from metajax.experiment import headlines, records

TINY = ["--encoder-name", "conv4", "--width", "0.0625", "--text-width", "8", "--text-layers", "1", "--num-outputs", "4"]
TINY += [
  "--size",
  "16",
  "--batch-size",
  "4",
  "--steps",
  "3",
  "--warmup-steps",
  "1",
  "--curve-every",
  "2",
  "--max-length",
  "8",
]
TINY += ["--vocab-size", "300", "--learning-rate", "1e-3", "--devices", "2", "--checkpoint-every", "3"]


def test_what_is_held_out_was_seen_in_its_parts():
  characters, marks = ["A", "B", "C", "D"], ["HOOK", "TAIL", "BREVE", "CARON"]
  names = [
    *characters,
    *(f"{a} WITH {m}" for a in characters for m in marks),
    "E WITH HOOK",
    "A WITH RING",
    "B WITH X WITH Y",
  ]
  held = held_out_combinations(names)
  assert 2 <= len(held) <= 18 // 5 and held == held_out_combinations(names)
  left = [name for i, name in enumerate(names) if i not in held]
  for i in held:
    character, mark = names[i].split(" WITH ")
    assert any(name.split(" WITH ")[0] == character for name in left)
    assert any(name.endswith(f"WITH {mark}") and name.count(" WITH ") == 1 for name in left)
  assert not {"E WITH HOOK", "A WITH RING"} & {names[i] for i in held}


def own(folder, number=12):
  for i in range(number):
    Image.fromarray(np.full((6, 6, 3), 10 * i, np.uint8)).save(folder / f"{i}.png")
  rows = [
    "path,caption",
    *(f"{i}.png,number {i}" for i in range(number)),
    *(f"{i}.png,the {i}th" for i in range(number)),
  ]
  (folder / "captions.csv").write_text("\n".join(rows))


def test_a_run_finds_captions_and_names_images_in_sentences(command, tmp_path):  # noqa: F811
  data, folder = tmp_path / "data", tmp_path / "run"
  data.mkdir()
  own(data)
  flags = ["--steps", "2", "--devices", "1", "--augment", "none", "--folder", str(folder), "--record"]
  status, out, error = command(clip, *TINY, *flags, "--data", str(data))
  assert status == 0, error
  assert "8 images of 8 classes for training; held out: test, 2 images of 2 classes" in out
  assert len(re.findall(r"^  (?:clip|untrained): test, (?:text to image|image to text) at \d+: ", out, re.M)) == 12
  written = json.loads((folder / "records.json").read_text())
  assert {(r["learner"], r["measure"]) for r in written} == {
    (name, f"{way}_at_{k}")
    for name in ("clip", "untrained")
    for way in ("text_to_image", "image_to_text")
    for k in (1, 5, 10)
  }
  assert {path.name for path in (folder / "figures").iterdir()} == {
    "learning_curves.png",
    "nearest.png",
    "similarity.png",
  }
  page = (records.home(None) / "README.md").read_text()
  assert "## data, test: 2 images of 2 classes and their texts, in percent" in page
  assert "| text to image, R@1 | text to image, R@5 | text to image, R@10 |" in page

  (data / "broken.png").write_bytes(b"nothing")
  classes = ["a dark image", "a bright one, of snow", "something else"]
  shares = tmp_path / "shares.csv"
  status, out, error = command(
    zero_shot, str(folder), "--classes", *classes, "--images", str(data), "--output", str(shares), "--top", "2"
  )
  assert status == 0, error
  lines = [line for line in out.splitlines() if re.match(r"\d+\.png ", line)]
  assert len(lines) == 12 and all(len(re.findall(r"[\d.]+%", line)) == 2 for line in lines)
  assert "1 of 13 files cannot be read: broken.png (" in out
  table = list(csv.reader(shares.read_text().splitlines()))
  assert table[0] == ["path", *classes] and len(table) == 13
  assert all(abs(sum(map(float, row[1:])) - 100) < 1e-2 for row in table[1:])

  for flags, said in (
    ([str(folder), "--classes", "one", "--images", str(data)], "expected at least two distinct classes, got ['one']"),
    ([str(folder), "--classes", "a", "b", "--images", str(tmp_path / "none")], "none"),
    ([str(data), "--classes", "a", "b", "--images", str(data)], "expected model.safetensors in"),
  ):
    status, _, error = command(zero_shot, *flags)
    assert status == 2 and said in error and error.count("\n") == 1
  status, _, error = command(fine_tune, str(folder))
  assert status == 2 and "expected a run on data with separate labeled images, such as glyphs" in error


def characters(name, split="train", *, size=28, **_):
  """Characters with marks in two typefaces, what `load` gives of glyphs; the test part has characters of its own."""
  names = [f"{a} WITH {m}" for a in "ABCD" for m in ("HOOK", "TAIL", "CARON")] if split == "train" else list("WXYZ")
  images = np.random.default_rng(len(names)).integers(0, 256, (12 * len(names), size, size, 1), np.uint8)
  styles = np.tile(["STIX", FAMILY, "STIX"], 4 * len(names))
  labels = np.repeat(np.arange(len(names)), 12)
  return from_arrays(images, labels, classes=names, captions=[(n,) for n in names], styles=styles)


@pytest.mark.slow
def test_glyphs_hold_out_combinations_and_a_typeface_and_probe_the_image_tower(command, monkeypatch, tmp_path):  # noqa: F811
  monkeypatch.setattr(data, "load", characters)
  flags = ["--test", "3w1s", "--test-tasks", "4", "--test-queries", "2", "--permuted"]
  status, out, error = command(clip, *TINY, *flags, "--folder", str(tmp_path / "run"))
  assert status == 0, error
  assert "80 images of 10 classes for training, with permuted captions; held out: unseen combinations, 16" in out
  written = json.loads((tmp_path / "run" / "records.json").read_text())
  assert {r["learner"] for r in written} == {
    "clip, permuted captions",
    "untrained",
    "pixels, nearest name",
    "pixels",
  }
  assert {r["measure"] for r in written} == {"zero_shot", "zero_shot_top_5", "linear_probe", "knn", "accuracy"}
  assert {r["split"] for r in written if r["measure"] == "zero_shot"} == {
    "unseen combinations",
    f"unseen combinations in {FAMILY}",
    f"characters in {FAMILY}",
  }

  page = (tmp_path / "run" / "index.html").read_text()
  assert all(f"{split}; chance" in page for split in ("unseen combinations", f"characters in {FAMILY}"))

  flags = ["--labels", "0.5", "--steps", "2", "--learning-rates", "1e-3", "--batch-size", "4", "--validations", "1"]
  status, out, error = command(fine_tune, str(tmp_path / "run"), *flags, "--record")
  assert status == 0, error
  found = json.loads((records.home(None) / "results" / "fine_tuned-clip-glyphs.json").read_text())
  assert [(r["learner"], r["seeds"]) for r in found] == [
    ("clip, permuted captions, fine-tuned", 1),
    ("from scratch", 1),
  ]


def test_tiles_of_one_measure_on_several_tests_say_which():
  said = {"learner": "clip", "steps": 3, "value": 20.0, "interval": 1.0, "classes": 10}
  named = [said | {"measure": "zero_shot", "split": split, "chance": 10.0} for split in ("characters", "marks")]
  assert headlines.tiles([*named, said | {"measure": "knn", "split": "test"}]) == [
    ("Zero-shot", "20 ± 1 %", "characters; chance 10"),
    ("Zero-shot", "20 ± 1 %", "marks; chance 10"),
    ("Nearest neighbors", "20 ± 1 %", "chance 10"),
  ]


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--batch-size", "1"], "expected --batch-size to be at least 2, got 1"),
    (["--vocab-size", "10"], "expected --vocab-size to be at least 258, got 10"),
    (["--max-length", "1"], "expected --max-length to be at least 2, got 1"),
    (["--learning-rate", "0"], "expected --learning-rate above 0, got 0.0"),
    (["--chunk", "2", "--devices", "1"], "chunked needs a network without state"),
  ],
)
def test_bad_input_is_one_line_and_nothing_is_written(command, monkeypatch, tmp_path, flags, said):  # noqa: F811
  monkeypatch.setattr(data, "load", characters)
  status, _, error = command(clip, *TINY, *flags, "--folder", str(tmp_path / "run"))
  assert status == 2 and said in error and error.count("\n") == 1
  assert not (tmp_path / "run").exists()
