"""The pretext command: what it asks, answers and records, of images and of clips with sounds."""

import json
import re

import jax
import numpy as np
import pytest
from test_pretraining import command, synthetic_set  # noqa: F401  (a fixture)

from experiments import pretext
from experiments.families import representation
from experiments.families.pretext import data, tasks
from experiments.families.pretext.montage import montage
from experiments.families.pretext.tasks import only_seen_words, swapped
from metajax.data import Recordings, moving_glyphs
from metajax.experiment import records
from metajax.pretexts import audio_visual
from metajax.types import Pair

TINY = ["--encoder-name", "conv4_strided", "--width", "0.0625", "--hidden", "8", "--size", "16", "--batch-size", "8"]
TINY += ["--steps", "4", "--warmup-steps", "1", "--curve-every", "2", "--optimizer", "adamw", "--learning-rate", "1e-3"]
TINY += ["--test-queries", "2", "--test-tasks", "4", "--test", "2w1s", "--devices", "2", "--checkpoint-every", "4"]


def recorded(name, split="train", *, size=64, sound=True, **flags):
  """Moving glyphs, few of them; images with captions and categories, as spoken stamps are; and talking clips."""
  if name == "moving_glyphs":
    found = moving_glyphs(split, size=size, clips=96, frames=8)
    return found if sound else found._replace(sounds=None)
  random = np.random.default_rng(len(split))
  frames = () if name == "spoken_stamps" else (30,)
  images = random.integers(0, 256, (40, *frames, size, size, 3), np.uint8)
  sounds = random.integers(-999, 999, (40, 9600)).astype(np.int16)
  texts = tuple(f"A {'red' if i % 2 else split} ball." for i in range(40))
  factors = (
    {"name": np.array([f"clip {i}" for i in range(40)])} if frames else {"category": np.array(["old", "new"] * 20)}
  )
  rate, sounds = 25.0 if frames else 0.0, None if name == "silent" else sounds
  return Recordings(images, sounds, rate, 8000, tuple(map(str, range(40))), texts, factors)


@pytest.fixture
def run(command, monkeypatch, tmp_path):  # noqa: F811
  monkeypatch.setattr(data, "load_recordings", recorded)
  monkeypatch.setattr(tasks, "QUESTIONS", 80)
  return lambda *flags: command(pretext, *TINY, *flags, "--folder", str(tmp_path / "run"))


def test_a_run_says_what_it_was_asked_and_what_its_features_are_worth(run, tmp_path):
  status, out, error = run("--task", "rotation", "--record")
  assert status == 0, error
  assert re.search(r"^  pretext task: [\d.]+ ± [\d.]+% over 12 questions, chance 25.00%$", out, re.MULTILINE)
  written = json.loads((tmp_path / "run" / "records.json").read_text())
  assert [(r["learner"], r["measure"], r.get("chance")) for r in written[:3]] == [
    ("rotation", "pretext", 25.0),
    ("rotation", "linear_probe", None),
    ("rotation", "knn", None),
  ]
  figures = sorted(path.name for path in (tmp_path / "run" / "figures").iterdir())
  assert figures == ["asked.png", "learning_curves.png", "map.png"]
  page = (tmp_path / "run" / "index.html").read_text()
  assert "Pretext task" in page and "Held-out questions" in page
  results = (records.home(None) / "README.md").read_text()
  assert "| pretext task | linear probe | nearest neighbors |" in results and "representations.png" in results
  assert (records.home(None) / "results" / "representations.png").exists()


@pytest.mark.parametrize(
  ("name", "flags", "measures"),
  [
    pytest.param(
      "moving_glyphs",
      ["--window", "2"],
      ["pretext", "pretext_others", "pretext_moments", "pretext_swapped"],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      "spoken_stamps",
      [],
      ["pretext", "pretext_seen", "pretext_unseen", "pretext_swapped"],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      "talking_clips",
      ["--window", "4"],
      ["pretext", "pretext_others", "pretext_moments", "pretext_swapped"],
      marks=pytest.mark.slow,
    ),
  ],
)
def test_kinds_of_sounds_are_asked_about_apart(run, tmp_path, name, flags, measures):
  status, _, error = run("--task", "audio_visual", "--data", name, *flags)
  assert status == 0, error
  written = json.loads((tmp_path / "run" / "records.json").read_text())
  assert [r["measure"] for r in written if r["measure"].startswith("pretext")] == measures
  assert all(r["chance"] == 50 for r in written[: len(measures)])
  assert {r["learner"] for r in written} == {"audio visual", "random encoder", "pixels"}


@pytest.mark.parametrize(
  ("name", "kinds"), [("moving_glyphs", ("others", "moments")), ("spoken_stamps", ("seen", "unseen"))]
)
def test_what_is_asked_of_sounds_is_asked_of_each_kind_and_with_sounds_swapped(monkeypatch, name, kinds):
  monkeypatch.setattr(data, "load_recordings", recorded)
  clips, probing = data.ClipFlags(window=2), representation.Probing(test=("2w1s",), test_queries=2)
  parts = data.load_recorded(representation.ImageData(data=name, size=16), probing, clips)
  questions = tasks.asked_of_clips("audio_visual", clips).questions(parts)
  assert [q.measure for q in questions] == ["pretext", *(f"pretext_{kind}" for kind in kinds), "pretext_swapped"]
  seen = parts.asked.images.shape
  assert parts.unlabeled.images.shape[1:] == seen[1:] and all(q.chance == 50 for q in questions)
  if name == "spoken_stamps":
    known, new = (q.rows for q in questions[1:3])
    assert known.sum() == 20 and (known != new).all()


def test_captions_with_new_words_are_told_apart():
  known = ("A red ball.", "The old town")
  asked = ("A red, old ball!", "A blue ball", "the Town", "town hall")
  np.testing.assert_array_equal(only_seen_words(known, asked), [True, False, True, False])


def test_swapped_sounds_are_never_ones_own():
  at = np.arange(6, dtype=np.float32)
  batch = Pair(at[:, None, None, None] * np.ones((1, 2, 2, 1), np.float32), np.repeat(at[:, None], 4, 1))
  task = swapped(audio_visual(negatives=("others",), listen=lambda x: x))
  inputs, _ = jax.jit(task)(jax.random.key(0), batch)
  seen, heard = (np.asarray(inputs[name]) for name in ("seen", "heard"))
  positives = heard[:, 0] == (seen[:, 0, 0, 0] + 3) % 6
  assert positives.any() and not (heard[:, 0] == seen[:, 0, 0, 0])[positives].any()


def test_parts_lie_side_by_side_with_paper_between():
  parts = np.arange(4, dtype=np.float32)[None, :, None, None, None] / 4 * np.ones((1, 1, 3, 3, 1))
  shown = montage(parts, 2)
  assert shown.shape == (1, 8, 8, 1) and (shown[0, 3:5] == 0.5).all() and (shown[0, :, 3:5] == 0.5).all()
  np.testing.assert_array_equal(shown[0, ::5, ::5, 0], [[0, 0.25], [0.5, 0.75]])


def test_crops_are_of_what_is_seen_alone_and_those_of_a_clip_alike():
  clips = np.repeat(np.random.default_rng(0).random((6, 1, 12, 12, 1), np.float32), 5, 1)
  sounds = np.random.default_rng(1).normal(size=(6, 50)).astype(np.float32)
  same = tasks.of_crops(lambda key, batch: batch)
  of_clips, of_images = (Pair(clips, sounds), clips[:, 0])
  cropped, alone = jax.device_get(
    jax.jit(lambda *given: [same(jax.random.key(0), x) for x in given])(of_clips, of_images)
  )
  np.testing.assert_array_equal(cropped.second, sounds)
  assert cropped.first.shape == clips.shape and np.abs(cropped.first - clips).max() > 0.1
  np.testing.assert_array_equal(cropped.first, np.repeat(cropped.first[:, :1], 5, 1))
  assert alone.shape == (6, 12, 12, 1) and np.abs(alone - clips[:, 0]).max() > 0.1


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--task", "jigsaw", "--gap", "9"], "expected tiles of at least 2 pixels a side"),
    (["--task", "jigsaw", "--permutations", "1"], "expected --permutations to be at least 2, got 1"),
    (["--task", "shuffle_and_learn", "--data", "moving_glyphs", "--stride", "2"], "clips .* of at least 9 frames"),
    (
      ["--task", "audio_visual", "--data", "moving_glyphs", "--sample-rate", "16000"],
      "--sample-rate 8000 for moving_gl",
    ),
    (
      ["--task", "audio_visual", "--data", "moving_glyphs", "--label", "size"],
      "one of across, character, height, got 'si",
    ),
    (["--task", "audio_visual", "--data", "silent"], "expected recordings with sound, got silent, which has none"),
    (["--task", "audio_visual", "--data", "moving_glyphs", "--window", "5"], "at least 10 frames for moments of 5"),
    (
      ["--task", "audio_visual", "--data", "spoken_stamps", "--label", "size"],
      "one of category, got 'size'",
    ),
  ],
)
def test_bad_input_is_one_line_and_nothing_is_written(run, tmp_path, flags, said):
  status, _, error = run(*flags)
  assert status == 2 and re.search(said, error) and error.count("\n") == 1
  assert not (tmp_path / "run").exists()
