"""Naming images by published weights: their own preprocessing, and names of files and classes of any kind."""

import csv
import json
import os
import sys

import commands
import numpy as np
import published_clips as published
import pytest
from PIL import Image

from experiments import zero_shot
from experiments.families.image_text import model
from metajax.data import preprocess
from metajax.experiment import command_line, records
from metajax.experiment.terminal import encodable, printable
from metajax.types import Examples, Preprocessing


@pytest.fixture
def clip(tmp_path):
  return published.of_bytes(tmp_path / "model")


@pytest.fixture
def photos(tmp_path):
  (tmp_path / "photos").mkdir()
  Image.fromarray(published.photo()).save(tmp_path / "photos" / "a.png")
  return tmp_path / "photos"


@pytest.fixture
def seen(monkeypatch):
  """What the network would be given, in place of what it makes of it: the last of the classes is the likeliest."""
  given = []

  def embed_dataset(embed, params, state, batches):
    given.extend(np.concatenate([batch.inputs for batch in batches]))
    return Examples(np.ones((len(given), 1)), None)

  monkeypatch.setattr(zero_shot, "embed_dataset", embed_dataset)
  monkeypatch.setattr(zero_shot, "zero_shot_classifier", lambda *_: np.linspace(0, 0.1, 2)[:, None])
  return given


@pytest.fixture
def run(monkeypatch, capsys):
  def run(*arguments):
    main = lambda: command_line.command(zero_shot.main)
    return commands.run(monkeypatch, capsys, "zero_shot", main, *map(str, arguments))

  return run


def test_images_are_preprocessed_as_the_weights_publisher_has_it(clip, photos, seen, run):
  status, out, error = run(clip, "--classes", "cat", "dog", "--images", photos)
  assert (status, error) == (0, "") and "a.png  dog " in out
  np.testing.assert_array_equal(seen, preprocess(published.photo(), Preprocessing(8))[None])


def test_another_image_size_reaches_images_and_network(clip, photos, seen, run):
  assert run(clip, "--classes", "cat", "dog", "--images", photos, "--image-size", 12)[0] == 0
  np.testing.assert_array_equal(seen, preprocess(published.photo(), Preprocessing(12))[None])
  assert model.read_model(clip, image_size=12).size == 12


def test_what_is_guessed_of_weights_is_printed(clip, photos, seen, run):
  (clip / "preprocessor_config.json").unlink()
  status, _, error = run(clip, "--classes", "cat", "dog", "--images", photos)
  assert status == 0 and error.startswith("warning: ") and "without a preprocessor_config.json" in error
  assert error.count("\n") == 1


def test_names_of_any_bytes_are_printed_and_written_and_command_no_terminal(clip, photos, seen, run, tmp_path):
  names = [b"caf\xe9.png", b"\x1b[2J\xc2\x9b.png", "\u202egnp.png".encode(), "日本.png".encode()]
  for name in names:
    os.link(photos / "a.png", os.path.join(os.fsencode(photos), name))
  with open(os.path.join(os.fsencode(photos), b"\x1b[31mred\n.png"), "wb") as file:
    file.write(b"nothing")
  classes = ["\x1b]0;title\x07", "b\nc"]
  status, out, error = run(clip, "--classes", *classes, "--images", photos, "--output", tmp_path / "shares.csv")
  assert (status, error) == (0, "")
  assert {c for c in out if not c.isprintable()} == {"\n"}
  for said in (r"caf\xe9.png", r"\x1b[2J\x9b.png", r"\u202egnp.png", "日本.png", r"\x1b]0;title\x07", r"b\nc"):
    assert said in out
  assert r"1 of 6 files cannot be read: \x1b[31mred\n.png (" in out
  assert len([line for line in out.splitlines() if "%" in line]) == 5
  with open(tmp_path / "shares.csv", encoding="utf-8", newline="") as file:
    table = list(csv.reader(file))
  assert table[0] == ["path", *classes] and r"caf\xe9.png" in [row[0] for row in table]


def test_what_stands_in_the_way_is_found_before_anything_is_read(clip, photos, seen, run, monkeypatch):
  monkeypatch.setattr(model, "load_clip", lambda *_, **__: pytest.fail("read"))
  flags = ["--classes", "cat", "dog", "--images", photos]
  (photos / "file").write_text("")
  for more, said in (
    (["--output", "gs://bucket/shares.csv"], "expected --output to be a path on this machine, got 'gs:/bucket/"),
    (["--output", photos / "file" / "shares.csv"], "expected a writable folder"),
    (["--top", "0"], "expected --top to be at least 1, got 0"),
    (["--templates", "a photo"], "templates with a place {}"),
  ):
    status, _, error = run(clip, *flags, *more)
    assert status == 2 and said in error and error.count("\n") == 1, error


def test_classes_that_are_the_same_to_the_model_are_refused(clip, photos, seen, run):
  for one, other in (("Cat", "cat"), ("a long sentence", "a long story")):  # the network reads nine tokens
    status, _, error = run(clip, "--classes", one, other, "--images", photos)
    assert status == 2 and f"classes with different tokens, got {one!r} and {other!r}" in error


def test_an_image_size_of_a_run_is_refused(run, photos, tmp_path):
  (tmp_path / "run.json").write_text("{}")
  status, _, error = run(tmp_path, "--classes", "a", "b", "--images", photos, "--image-size", 12)
  assert status == 2 and "--image-size only with published weights" in error


def test_an_error_commands_no_terminal_either(run, photos, tmp_path):
  (tmp_path / "\x1b[31m").mkdir()
  status, _, error = run(tmp_path / "\x1b[31m", "--classes", "a", "b", "--images", photos)
  assert status == 2 and "\x1b" not in error and r"\x1b[31m" in error


@pytest.mark.parametrize(
  ("text", "shown", "written"),
  [
    ("plain, ünï, 日本 ", "plain, ünï, 日本 ", "plain, ünï, 日本 "),
    ("\x1b[2J\x9b\x7f", r"\x1b[2J\x9b\x7f", "\x1b[2J\x9b\x7f"),
    ("a\tb\r\nc\u2028", r"a\tb\r\nc\u2028", "a\tb\r\nc\u2028"),
    ("\u202eabc\u2066\ufeff", r"\u202eabc\u2066\ufeff", "\u202eabc\u2066\ufeff"),
    ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),
    (os.fsdecode(b"caf\xe9"), r"caf\xe9", r"caf\xe9"),
    ("\ud800", r"\ud800", r"\ud800"),
  ],
)
def test_what_others_wrote_is_shown_and_written_without_commands(text, shown, written):
  assert (printable(text), encodable(text)) == (shown, written)


def test_records_of_names_that_are_no_utf_8_are_read_as_they_were(tmp_path):
  name = os.fsdecode(b"caf\xe9 \xff")
  records.write(tmp_path / "records.json", [{"data": name}])
  assert json.loads((tmp_path / "records.json").read_text(encoding="utf-8")) == [{"data": name}]


def test_no_name_ends_a_run_because_it_cannot_be_printed(monkeypatch, tmp_path):
  with open(tmp_path / "out", "w", encoding="utf-8") as out:
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "argv", ["x"])
    command_line.command(lambda: print(os.fsdecode(b"caf\xe9")))
  assert (tmp_path / "out").read_text() == "caf\\udce9\n"
