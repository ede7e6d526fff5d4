"""The command bert: whether a text follows another, and the category of a text by its features."""

import itertools
import json
import re

import few_programs
import numpy as np
import pytest
from test_pretraining import command  # noqa: F401  (a fixture)

from experiments import bert
from experiments.families.data import ImageData
from experiments.families.language import next_sentence, segments
from metajax.data.text.corpus import Subjects
from metajax.experiment import driver
from metajax.types import Pair

TINY = ["--width", "8", "--num-layers", "1", "--num-heads", "2", "--batch-size", "8", "--steps", "2"]
TINY += ["--warmup-steps", "1", "--eval-every", "2", "--vocab-size", "270", "--max-length", "6"]
TINY += ["--optimizer", "adamw", "--devices", "1"]
KINDS = ("animal", "plant")


def groups(part):
  """Twelve subjects of a part, each with a text of its kind and one of its own, a third with a third one."""
  return tuple((f"{KINDS[i % 2]} of {part} {i}", f"it is {i}", *["and more"] * (i % 3 == 0)) for i in range(12))


def given(monkeypatch, subjects):
  monkeypatch.setattr(segments, "load_subjects", lambda name, part, **how: subjects(part))


@pytest.fixture
def corpus(monkeypatch):
  given(monkeypatch, lambda part: Subjects(groups(part), (*KINDS,) * 6))


def test_adjacent_texts_of_a_subject_are_pairs_and_half_of_what_is_asked_is_of_two_subjects(corpus, capsys):
  found = segments.load_segments(ImageData("captions"), 270, 40)
  said = lambda row: found.tokenizer.text(row)
  pairs, about = found.pairs["test"], found.about["test"]
  wanted = [(i, a.lower(), b.lower()) for i, own in enumerate(groups("test")) for a, b in itertools.pairwise(own)]
  assert [(i, said(a), said(b)) for i, a, b in zip(about, *pairs, strict=True)] == wanted
  assert "16 pairs for train, 16 pairs for validation, 16 pairs for test" in capsys.readouterr().out
  asked = next_sentence.asked(found, "test")
  count = len(about)
  assert asked.follows.tolist() == [True] * count + [False] * count
  assert asked.score(asked.right(asked.follows)).mean == 100
  np.testing.assert_array_equal(asked.pairs.first[:count], asked.pairs.first[count:])
  subject = {b: i for i, _, b in wanted if "it is" in b}
  for i, b in zip(asked.about[count:], asked.pairs.second[count:], strict=True):
    assert subject.get(said(b)) != i


def test_a_text_that_is_cut_is_said_and_a_long_one_is_cut_into_stretches(monkeypatch, tmp_path, capsys):
  given(monkeypatch, lambda part: Subjects(groups(part)))
  found = segments.load_segments(ImageData("captions"), 270, 3)
  assert re.search(r"\d+ texts of more than 3 tokens are cut", capsys.readouterr().out)
  assert found.pairs["train"].first.shape[1] == 3
  text = "So it went on and on. " * 40
  given(monkeypatch, lambda part: Subjects(((text,),)))
  first, second = segments.load_segments(ImageData(str(tmp_path / "book.txt")), 270, 5).pairs["test"]
  np.testing.assert_array_equal(first[1:], second[:-1])
  given(monkeypatch, lambda part: Subjects((("alone",),) * 9))
  said = r"expected two or more, of subjects with several texts .* got 0 pairs of adjacent"
  with pytest.raises(ValueError, match=said):
    segments.load_segments(ImageData("names"), 270, 5)


def test_words_in_common_are_a_baseline():
  """The number of them is chosen on validation pairs."""
  rows = lambda *texts: np.array(texts)
  same = Pair(
    rows([1, 2, -1], [3, 4, -1], [5, 6, -1], [7, 8, -1]), rows([2, 9, -1], [4, 9, -1], [6, 9, -1], [8, 9, -1])
  )
  found = segments.Segments({"validation": same}, {"validation": np.arange(4)}, None)
  unknown = Pair(rows([1, 2, -1], [1, 2, -1]), rows([2, 3, -1], [3, 4, -1]))
  assert next_sentence._words(found, unknown).tolist() == [True, False]


def test_a_run_is_tested_beside_words_and_its_features_beside_a_random_encoder(command, corpus, monkeypatch, tmp_path):  # noqa: F811
  few_programs.use(monkeypatch)
  monkeypatch.setattr(driver, "write_page", lambda run, *given: None)
  status, out, error = command(bert, *TINY, "--folder", str(tmp_path / "run"))
  assert status == 0, error
  written = json.loads((tmp_path / "run" / "records.json").read_text())
  assert [(r["learner"], r["measure"]) for r in written] == [
    *[(name, "pretext") for name in ("bert", "words in common")],
    *[
      (name, measure)
      for name in ("bert", "random encoder", "random vectors of words")
      for measure in ("linear_probe", "knn")
    ],
  ]
  assert {(r["classes"], r["tested"]) for r in written} == {(2, 32), (2, 28)}
  assert "bits per masked token" in out and (tmp_path / "run" / "tokenizer.json").is_file()


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--no-next-sentence", "--mask-rate", "0"], "--next-sentence or a --mask-rate above 0, got neither"),
    (["--optimizer", "lars"], "--optimizer adamw for bert, got 'lars'"),
    (["--batch-size", "4000"], "a --batch-size of at most all 16 pairs, got 4000"),
  ],
)
def test_flags_that_do_not_fit_are_refused(command, corpus, flags, message):  # noqa: F811
  status, _, error = command(bert, *TINY, *flags)
  assert status == 2 and re.fullmatch(f"error: expected {message}.*\n", error), error
