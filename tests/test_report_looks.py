"""How figures and the page look where there is little room: few columns, many columns, a narrow screen."""

import itertools
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metajax import Episode, Examples
from metajax.report import comparison_figure, learning_curves_figure, page
from metajax.report.comparison import _LEAST_WIDTH
from metajax.report.drawing import DOTS_PER_INCH


def task(ways, shots=1, queries=2):
  random = np.random.default_rng(0)
  some = lambda each: Examples(random.random((ways * each, 8, 8, 1)), np.repeat(np.eye(ways), each, 0))
  return Episode(some(shots), some(queries))


@pytest.mark.parametrize("ways", [1, 2, 3])
def test_a_comparison_of_few_columns_has_its_layout_and_room_for_its_words(tmp_path, ways):
  path, episode = tmp_path / "figure.png", task(ways)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    comparison_figure(
      episode, np.zeros((2 * ways, ways)), path, measure="distance in the embedding", best="smallest",
      names=["LATIN CAPITAL LETTER E WITH CARON"] * ways,
    )  # fmt: skip
  image = np.asarray(Image.open(path).convert("RGB"))
  assert image.shape[1] > 0.7 * _LEAST_WIDTH * DOTS_PER_INCH
  frames = (image == (0x00, 0x9E, 0x73)).all(-1) | (image == (0xD5, 0x5E, 0x00)).all(-1)  # of the best of a row
  across = np.flatnonzero(frames.any(0))
  assert (across[-1] - across[0]) > 0.5 * DOTS_PER_INCH  # cells are as large as numbers need them


def test_a_panel_without_a_curve_is_not_drawn(tmp_path):
  rows = [{"step": i, **dict.fromkeys("abcde", i / 9)} for i in range(1, 9)]
  learning_curves_figure(rows, tmp_path / "five.png")
  height, width = np.asarray(Image.open(tmp_path / "five.png")).shape[:2]
  last = np.asarray(Image.open(tmp_path / "five.png").convert("L"))[height // 2 + 20 :, 2 * width // 3 + 40 :]
  assert (last > 250).all()


def rules():
  """`{(media, selector): declarations}` of the page's style."""
  css = re.sub(r"/\*.*?\*/", "", (Path(page.__code__.co_filename).with_name("page.css")).read_text(), flags=re.DOTALL)
  found, media = {}, ""
  for start, selector, body, end in re.findall(r"(@media[^{]*)\{|([^{}]+)\{([^{}]*)\}|(\})", css):
    media = start.strip() if start else "" if end else media
    for one in selector.split(",") if selector else ():
      found.setdefault((media, " ".join(one.split())), []).append(body)
  return {key: " ".join(bodies) for key, bodies in found.items()}


def test_words_of_the_records_wrap_and_numbers_do_not():
  style = rules()
  for cell in (".records th", ".records td", ".records thead th"):
    assert "nowrap" not in style["", cell]
  assert "nowrap" in style["", ".records td.number"] and "anywhere" in style["", ".records td code"]


def test_figures_keep_their_size_on_a_narrow_screen_and_are_scrolled():
  narrow = {
    selector: body for (media, selector), body in rules().items() if media.startswith("@media (max-width: 48rem")
  }
  assert "overflow-x: auto" in narrow[".image"] and "max-width: none" in narrow[".image img"]
  assert "max-width: 100%" in rules()["", ".image img"]


def test_whoever_has_no_mouse_can_scroll_a_figure(tmp_path):
  Image.new("L", (2, 2)).save(tmp_path / "a.png")
  figures = [("A", "", tmp_path / "a.png")]
  page(tmp_path / "a.html", title="", summary=[], configuration={}, records=[], figures=figures)
  assert '<div class="image" tabindex="0">' in (tmp_path / "a.html").read_text()


def test_colors_of_a_warning_are_there_in_light_and_in_dark():
  assert all("--warning" in rules()[media, ":root"] for media in ("", "@media (prefers-color-scheme: dark)"))
  assert list(itertools.chain(*(re.findall(r"var\(--warning\)", body) for body in rules().values())))
