"""Training that learned nothing says so, on the terminal and on the page; training that learned something does not."""

import functools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from metajax.experiment import Record, headlines, records, results_page
from metajax.report import metrics_log, page
from metajax.train import BesideChance, nothing_learned

rows = lambda *norms, every=50: [{"step": (i + 1) * every, "grad_norm": x} for i, x in enumerate(norms)]


@pytest.mark.parametrize(
  ("metrics", "said"),
  [
    (rows(1.0, 0.0, 0.0), "in the last 100 of 150 steps"),
    (rows(3e11, *[0.0] * 99), "in the last 4,950 of 5,000 steps"),
    (rows(0.0, 0.0, every=1), "in the last 2 of 2 steps"),  # of fewer than 100 all
    ([*rows(1.0, 0.0, 0.0), {"step": 200, "validation": 20.0}], "in the last 100 of 150 steps"),
    (rows(1.0, 1.0, 0.0), None),  # 50 steps may be a plateau
    (rows(0.0, 0.0, 0.0, 1e-30), None),
    (rows(0.0, 0.0, math.nan), None),
    (rows(1.0), None),
    ([], None),
  ],
)
def test_a_gradient_of_zero_in_the_last_hundred_steps_is_said(metrics, said):
  found = nothing_learned(metrics)
  assert bool(found) == bool(said)
  if said:
    assert re.fullmatch(f"the gradient was exactly 0 {said}, in which nothing was learned", *found)


@pytest.mark.parametrize(
  ("value", "interval", "chance", "better", "nothing"),
  [
    (20.4, 0.5, 20.0, "larger", True),
    (20.6, 0.5, 20.0, "larger", False),
    (np.float32(100) / 3, 0.0, 100 / 3, "larger", True),  # an accuracy of 32 bits
    (12.0, 0.5, 20.0, "larger", True),
    (10.95, 0.1, 11.0, "smaller", True),
    (4.48, 0.02, 11.0, "smaller", False),
    (13.0, 0.02, 11.0, "smaller", True),
    (100.0, None, 20.0, "larger", False),  # of one score nobody can say
    (20.0, math.inf, 20.0, "larger", False),
  ],
)
def test_a_score_within_its_interval_of_chance_is_said(value, interval, chance, better, nothing):
  found = nothing_learned([], [BesideChance("it", value, interval, chance, better)])
  assert bool(found) == nothing
  assert not found or found == [f"it is no better than chance: {value:g} ± {interval:g}, chance level {chance:g}"]


def test_what_cannot_be_asked_is_refused():
  with pytest.raises(ValueError, match="steps to be a whole number of at least 1, got 0"):
    nothing_learned([], steps=0)
  with pytest.raises(ValueError, match="`better` of it to be one of 'larger', 'smaller', got 'more'"):
    nothing_learned([], [BesideChance("it", 1.0, 1.0, 1.0, "more")])


def record(learner, measure, value, interval=0.2, **more):
  return {"learner": learner, "measure": measure, "value": value, "interval": interval, "steps": 100, **more}


few_shot = functools.partial(record, measure="accuracy", ways=3, shots=1)


@pytest.mark.parametrize(
  ("measured", "said"),
  [
    (
      few_shot("maml", value=33.4, policy="transductive"),
      r"3-way 1-shot accuracy of maml \(transductive\) is .* 33.33",
    ),
    (few_shot("maml", value=35.0, policy="none"), None),
    (few_shot("maml", measure="accuracy_after_steps", value=33.0), None),  # before a step that is as it should be
    (few_shot("pixels", value=33.0), None),  # was not trained
    (few_shot("bigram", value=33.0, steps=0), None),
    (record("simclr", "linear_probe", 10.1, classes=10), "linear probe of simclr is .* chance level 10"),
    (record(results_page.UNTRAINED, "linear_probe", 10.1, classes=10), None),
    (record("clip", "zero_shot", 0.6, chance=0.5, classes=200), "zero-shot of clip is no better .* chance level 0.5"),
    (record("gpt", "bits_per_token", 11.0, chance=11.0), "bits per token of gpt is no better"),
    (record("gpt", "bits_per_token", 4.0, chance=11.0), None),
    (record("sine", "mean_squared_error", 4.0), None),  # nobody knows its chance
  ],
)
def test_records_of_what_was_trained_are_held_against_chance(measured, said, capsys):
  found = headlines.warn(None, [measured])
  assert bool(found) == bool(said)
  assert not found or re.search(said, *found)
  assert capsys.readouterr().err == "".join(f"warning: {one}\n" for one in found)


def test_a_masked_autoencoder_is_held_against_the_mean_patch():
  error = functools.partial(record, measure="reconstruction_error")
  beside = error(headlines.MEAN_PATCH, value=0.36, steps=0)
  assert not headlines.warn(None, [error("masked autoencoder", value=0.1), beside])
  assert headlines.warn(None, [error("masked autoencoder", value=0.4), beside])


def test_each_part_of_a_run_is_looked_at_and_the_page_says_it_first(tmp_path, capsys):
  for part, norm in (("maml", 0.0), ("joint", 1.0)):
    with metrics_log(tmp_path / part) as log:
      log(100, {"grad_norm": norm})
  found = headlines.warn(tmp_path, [])
  assert found == ["maml: the gradient was exactly 0 in the last 100 of 100 steps, in which nothing was learned"]
  assert found[0] in capsys.readouterr().err
  page(
    tmp_path / "a.html", title="", summary=[("a", "b", "c")], configuration={}, records=[], figures=[], warnings=found
  )
  html = (tmp_path / "a.html").read_text()
  assert html.index("Maml: the gradient was exactly 0") < html.index('class="tiles"')
  page(tmp_path / "b.html", title="", summary=[], configuration={}, records=[], figures=[])
  assert 'class="warning"' not in (tmp_path / "b.html").read_text()


def test_a_tile_has_chance_beside_it_and_no_interval_of_one_score():
  one = few_shot("maml", value=97.5, published=98.7)
  assert headlines.beside(one, "pixels 44") == "chance 33.33, pixels 44, published 98.7"
  assert headlines.value_of(one) == "97.5 ± 0.2"
  assert headlines.value_of(few_shot("maml", value=97.5, interval=None)) == "97.5"
  alone = records.flat(Record("maml", "accuracy", 50.0, math.inf))
  assert alone["interval"] is None and json.loads(json.dumps(alone, allow_nan=False))["value"] == 50


def test_the_one_driver_looks_whether_something_was_learned():
  sources = {path.name: path.read_text() for path in Path(headlines.__file__).parent.rglob("*.py")}
  having = lambda what: {name for name, source in sources.items() if what in source}
  assert having('folder / "records.json", measured)') == {"driver.py"} <= having("headlines.warn(")
