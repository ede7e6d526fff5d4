"""The page of a run: one file that is whole, well formed and safe to open."""

import base64
import re
from html.parser import HTMLParser

import pytest

from metajax.report import Swatch, contact_sheet_figure, page
from metajax.report.tables import configuration_table, records_table

VOID = {"meta", "img", "br", "hr", "link", "input"}
NASTY = "<script>alert('x')</script> & \"ünïcode\" 動物"


class Reader(HTMLParser):
  """Checks that tags are nested, and gathers them with their attributes, and the text."""

  def __init__(self, html):
    super().__init__()
    self.open, self.tags, self.text, self.cells = [], [], [], []
    self.feed(html)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    if tag not in VOID:
      self.open.append(tag)
      if tag in ("td", "th"):
        self.cells.append("")

  def handle_startendtag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if "style" not in self.open:
      self.text.append(data)
    if "td" in self.open or "th" in self.open:
      self.cells[-1] += data

  def named(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]


def record(learner, shots, value, **more):
  fixed = {
    "data": "glyphs",
    "measure": "accuracy",
    "ways": 5,
    "tasks": 1000,
    "seed": 20261124,
    "versions": {"jax": "1"},
  }
  return fixed | {"learner": learner, "shots": shots, "value": value, "interval": 0.21, "published": None} | more


def arguments(tmp_path):
  contact_sheet_figure([[[[0.5]] * 4] * 4] * 3, "abc", tmp_path / "sheet.png")
  (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>')
  return {
    "title": f"A run {NASTY}",
    "summary": [("5-way 1-shot", "97.8 ± 0.2 %", NASTY), ("trained", "29 min", "")],
    "configuration": {
      "command": f"python -m x '{NASTY}'",
      "seed": 1234,
      "versions": {"jax": "0.10"},
      "n": {NASTY: {"b": NASTY}},
    },
    "records": [record("maml", 1, 97.5, query_norm=NASTY), record("pixels", 1, 44.25)],
    "figures": [("Sheet", NASTY, tmp_path / "sheet.png"), (NASTY, "", tmp_path / "drawing.svg")],
    "notes": [NASTY, Swatch(NASTY, (0, 0.5, 1)), ("left out", [f"{NASTY} {k}" for k in range(30)]), ("none", [])],
  }


@pytest.fixture
def html(tmp_path):
  page(tmp_path / "new" / "index.html", **arguments(tmp_path))
  return (tmp_path / "new" / "index.html").read_text(encoding="utf-8")


def test_tags_are_nested_and_anchors_lead_somewhere(html):
  reader = Reader(html)
  ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
  assert ids == ["figures", "records", "configuration", "notes"]
  assert [a["href"] for a in reader.named("a")] == [f"#{name}" for name in ids]


def test_the_page_asks_nothing_of_the_network(html):
  reader = Reader(html)
  assert not reader.named("link") and not reader.named("script")
  for _, attributes in reader.tags:
    for name in ("src", "href", "srcset", "data", "action", "poster"):
      assert attributes.get(name, "#").startswith(("#", "data:"))
  assert not re.search(r"url\(|@import", html)
  assert "default-src 'none'" in html


def test_every_image_is_within_the_page_with_a_text(html, tmp_path):
  images = Reader(html).named("img")
  kinds, contents = zip(*(image["src"].split(";base64,") for image in images), strict=True)
  assert kinds == ("data:image/png", "data:image/svg+xml")
  assert [base64.b64decode(c) for c in contents] == [(tmp_path / n).read_bytes() for n in ("sheet.png", "drawing.svg")]
  assert images[0]["alt"] == f"Sheet. {NASTY}" and images[1]["alt"] == NASTY
  assert 100 < int(images[0]["width"]) < 700  # half its dots, so that it is sharp on a dense screen


def test_everything_is_escaped(html):
  text = "".join(Reader(html).text)
  assert text.count(NASTY) >= 10 and "<script>alert" not in html.replace("&lt;script&gt;", "")


def test_long_notes_are_folded_but_whole(html):
  reader = Reader(html)
  assert len(reader.named("details")) == 1 and "18 more" in reader.text
  assert all(f"{NASTY} {k}" in reader.text for k in range(30))


def test_a_swatch_is_drawn_in_its_color(html):
  assert 'fill="#0080ff"' in html and "#0080ff" in Reader(html).text


@pytest.mark.parametrize("rgb", [(0, 128, 255), (0.1, 0.2), (float("nan"),) * 3])
def test_a_swatch_of_no_color_is_refused_and_nothing_written(tmp_path, rgb):
  given = arguments(tmp_path) | {"notes": [Swatch("mean", rgb)]}
  with pytest.raises(ValueError, match=r"in \[0, 1\]"):
    page(tmp_path / "index.html", **given)
  assert not (tmp_path / "index.html").exists()


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path):
  path = tmp_path / "index.html"
  path.write_text("old")
  with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
    page(path, **arguments(tmp_path) | {"figures": [("x", "", tmp_path / "nowhere.png")]})
  (tmp_path / "words.png").write_text("not an image")
  with pytest.raises(ValueError, match=r"words\.png"):
    page(path, **arguments(tmp_path) | {"figures": [("x", "", tmp_path / "words.png")]})
  assert path.read_text() == "old" and not list(tmp_path.glob(".*"))


def test_file_names_that_are_not_unicode_are_shown_all_the_same(tmp_path):
  given = arguments(tmp_path) | {"notes": ["odd \udcff\x00\x1b name"]}
  page(tmp_path / "index.html", **given)
  assert "odd ��� name" in Reader((tmp_path / "index.html").read_text(encoding="utf-8")).text


def test_empty_parts_are_left_out(tmp_path):
  page(tmp_path / "index.html", title="t", summary=[], configuration={}, records=[], figures=[])
  reader = Reader((tmp_path / "index.html").read_text())
  assert not reader.named("section") and not reader.named("nav")


def test_records_show_what_differs_in_rows_and_what_does_not_below():
  html = records_table([record("maml", 1, 97.5), record("pixels", 5, 44.25)], {})
  reader = Reader(html)
  assert reader.cells[:5] == ["method", "ways", "shots", "accuracy ± 95% CI", "published"]
  assert reader.cells[5:] == ["maml", "5", "1", "97.50 ± 0.21", "–", "pixels", "5", "5", "44.25 ± 0.21", "–"]
  below = "".join(reader.text).split("In every row: ")[1]
  assert below == "data glyphs · measure accuracy · tasks 1,000 · seed 20261124 · versions jax 1"


def test_what_the_configuration_tells_is_not_told_again_below_the_records():
  below = records_table([record("maml", 1, 97.5)], {"seed": 20261124, "tasks": 999}).split("In every row: ")[1]
  assert "seed" not in below and "1,000" in below


def test_records_of_several_measures_and_unlike_fields_stand_in_one_table():
  html = records_table(
    [{"measure": "knn", "value": 1, "k": 5}, {"measure": "zero_shot", "value": 0.5, "prompt": "a"}], {}
  )
  assert Reader(html).cells == ["measure", "value", "k", "prompt", "knn", "1", "5", "–", "zero_shot", "0.5", "–", "a"]


def test_configuration_keeps_every_value_however_deep():
  given = {"flat": True, "none": None, "empty": {}, "a": {"b": {"c": {"d": 1e-5}}, "list": [1, "x"], "e": None}}
  cells = Reader(configuration_table(given | {"seed": 7, "list": [{"f": 1}, {"f": 2}]})).cells
  assert cells[:6] == ["flat", "yes", "none", "–", "empty", "–"]
  assert cells[6:] == ["b", "c", "d", "1e-05", "list", "1, x", "e", "–", "1", "f", "1", "2", "f", "2"]


def test_what_repeats_the_run_stands_first_and_sessions_say_what_differs():
  given = {"machine": "m", "command": "python -m x", "flags": {"seed": 5}, "versions": {"jax": "0.10"}}
  sessions = [{"started": "now", "machine": "m"}, {"started": "then", "machine": "another"}]
  reader = Reader(configuration_table(given | {"sessions": sessions}))
  assert reader.text[:2] == ["python -m x", "seed 5 · m · jax 0.10"]
  assert reader.cells == ["seed", "5", "1", "started", "now", "2", "started", "then", "machine", "another"]
