"""What a run shows while it trains, and the images of its data."""

import importlib.util
import io
import itertools
import re
import time

import numpy as np
import pytest
from matplotlib.figure import Figure
from png_pixels import coarse, opened  # noqa: F401  (a fixture)
from rich.console import Console
from table_of_learners import one_hot

from metajax import Episode, Examples
from metajax.progress import _draws
from metajax.report import contact_sheet_figure, curves_figure, episode_figure, progress

METRICS = {"loss": 1.25, "accuracy": 0.5, "tiny": 0.00012, "grad_norm": 7.0, "steps_per_second": 10.0}
METRICS |= {"data_wait_fraction": 0.09, "seconds": 5.0}


def shown(**settings):
  """What `progress` writes of a run of 4 steps."""
  console = Console(file=io.StringIO(), width=120, **settings)
  with progress(4, rows=8, console=console) as log:
    log(2, METRICS)
    log(4, {**METRICS, "loss": 0.75})
  return console.file.getvalue()


def test_progress_prints_a_plain_line_a_call_where_there_is_no_terminal():
  lines = shown(force_terminal=False).splitlines()
  line = r"step {}/4  80 tasks/s  loss {}  accuracy 0\.500  tiny 1\.2e-04  {} s left"
  assert len(lines) == 2
  assert re.fullmatch(line.format(2, r"1\.250", r"\d+"), lines[0])
  assert re.fullmatch(line.format(4, r"0\.750", "0"), lines[1])


def test_progress_draws_one_bar_on_a_terminal():
  written = shown(force_terminal=True)
  assert "\x1b[" in written and "━" in written
  last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "\n").strip().splitlines()[-1]
  assert "step 4/4  80 tasks/s  loss 0.750" in last


def test_progress_draws_a_bar_in_a_notebook_that_has_widgets_and_lines_in_another(monkeypatch):
  for there, bar in ((object(), True), (None, False)):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, there=there: there)
    assert _draws(Console(file=io.StringIO(), force_jupyter=True)) == bar


def test_a_step_without_metrics_moves_the_bar_and_prints_no_line():
  for terminal, said in ((True, "step 3/4"), (False, "")):
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    with progress(4, rows=8, console=console) as log:
      log(3, {})
    written = console.file.getvalue()
    assert said in written if terminal else written == said


def test_progress_ends_its_bar_where_training_fails():
  console = Console(file=io.StringIO(), force_terminal=True)
  with pytest.raises(FloatingPointError), progress(4, rows=8, console=console):
    raise FloatingPointError
  assert "\x1b[?25h" in console.file.getvalue()  # the cursor is back


def lines(*calls, **settings):
  console = Console(file=io.StringIO(), width=120, force_terminal=False)
  with progress(100, rows=8, console=console, **settings) as log:
    for step, metrics in calls:
      log(step, metrics)
  return console.file.getvalue().splitlines()


def test_a_line_ends_with_the_share_of_time_that_data_were_waited_for():
  (line,) = lines((50, METRICS | {"data_wait_fraction": 0.234}))
  assert line.endswith(" s left  waiting for data 23%")


def test_a_validation_may_be_logged_alone_at_any_step():
  first, second, third = lines((0, {"validation": 20.0}), (7, {"validation": 97.5}), (100, {"validation": 98}))
  assert first == "step 0/100  validation 20.000"
  assert re.fullmatch(r"step 7/100  validation 97\.500  \d+ s left", second)
  assert third.startswith("step 100/100  validation 98.000")


def test_the_time_left_of_a_resumed_run_rests_on_the_steps_since(monkeypatch):
  clock = itertools.count(0, 10)
  monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
  (line,) = lines((60, METRICS), start=50)  # 10 steps in 10 s, 40 to go
  assert line.endswith("  40 s left")


def test_the_bar_of_a_resumed_run_begins_where_it_goes_on_and_keeps_what_it_showed():
  console = Console(file=io.StringIO(), width=120, force_terminal=True)
  with progress(100, rows=8, console=console, start=50) as log:
    log(60, METRICS)
    log(61, {"validation": 97.5})
  last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n").strip().splitlines()[-1]
  assert "step 61/100  80 tasks/s  loss 1.250  accuracy 0.500  validation 97.500" in last


def episode(ways, shots, query_classes, channels=1):
  random = np.random.default_rng(0)
  classes = np.repeat(np.arange(ways), shots)
  examples = lambda classes: Examples(random.uniform(size=(len(classes), 5, 4, channels)), one_hot(classes, ways))
  return Episode(examples(classes), examples(query_classes))


GREEN, RED = (0, 158, 115), (213, 94, 0)  # Okabe and Ito's, which the color-blind tell apart


def has(image, color):
  return np.any(np.all(np.abs(image - np.array(color)) < 8, axis=-1))


@pytest.mark.parametrize(
  ("ways", "shots", "query_classes", "channels"),
  [
    (3, 2, [0, 0, 1, 1, 2, 2], 1),
    (2, 1, [0, 1], 3),
    (3, 1, [0, 0, 0, 2], 1),  # uneven, and one way without a query
  ],
)
def test_episode_figure_writes_an_image_and_the_folders_it_needs(tmp_path, ways, shots, query_classes, channels):
  path = tmp_path / "new" / "folder" / "episode.png"
  one = episode(ways, shots, query_classes, channels)
  episode_figure(one, one.query.labels, path, title="a title")
  assert has(opened(path), GREEN)


def test_episode_figure_frames_right_answers_green_and_wrong_ones_red(tmp_path):
  one = episode(2, 1, [0, 1])
  for name, logits, colors in (
    ("right", [[1, 0], [0, 1]], (True, False)),
    ("wrong", [[0, 1], [1, 0]], (False, True)),
    ("half", [[1, 0], [1, 0]], (True, True)),
  ):
    episode_figure(one, np.array(logits), tmp_path / f"{name}.png")
    image = opened(tmp_path / f"{name}.png")
    assert (has(image, GREEN), has(image, RED)) == colors


def test_ways_beyond_the_characters_are_named_by_their_number(tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **settings: drawn.append(figure))
  one = episode(28, 1, np.arange(28))
  episode_figure(one, np.roll(one.query.labels, 1, axis=-1), tmp_path / "episode.png")
  titles = [axes.get_title() for axes in drawn[0].axes if axes.get_title()]
  names = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "26", "27"]
  # each support image, then what its query is taken for
  assert titles[::2] == names and titles[1::2] == [*names[1:], "A"]


def test_names_of_ways_stand_before_their_rows(tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **settings: drawn.append(figure))
  one = episode(2, 1, [0, 1])
  episode_figure(one, one.query.labels, tmp_path / "episode.png", names=["cat", "a $dog$ of no great length, but some"])
  said = [text.get_text() for axes in drawn[0].axes for text in axes.texts]
  assert said == ["cat", "a $dog$ of no\ngreat length, but\nsome"]
  with pytest.raises(ValueError, match="a name for each of 2 classes, got 1"):
    episode_figure(one, one.query.labels, tmp_path / "episode.png", names=["cat"])


def test_episode_figure_draws_at_most_so_many_queries_a_way(tmp_path):
  one = episode(2, 1, [0] * 6 + [1] * 6)
  for queries in (2, 6):
    episode_figure(one, one.query.labels, tmp_path / f"{queries}.png", queries=queries)
  narrow, wide = (opened(tmp_path / f"{queries}.png").shape[1] for queries in (2, 6))
  assert narrow < wide


def test_curves_figure_draws_each_curve_and_its_points(tmp_path):
  x = np.linspace(0, 1, 20)
  path = tmp_path / "new" / "curves.png"
  curves_figure({"truth": (x, x**2), "maml": (x, x)}, path, points=(x[:3], x[:3]), x="x", y="y", title="t")
  with_points = opened(path)
  curves_figure({"truth": (x, x**2), "maml": (x, x)}, str(path), x="x", y="y")
  without = opened(path)
  purple = (204, 121, 167)
  assert has(with_points, purple) and not has(without, purple)


@pytest.mark.parametrize(("count", "channels", "kind"), [(1, 1, np.uint8), (7, 3, np.uint8), (9, 3, np.float32)])
def test_contact_sheet_draws_images_of_any_kind(tmp_path, count, channels, kind):
  path = tmp_path / "new" / "sheet.png"
  images = np.full((count, 4, 6, channels), 255 if kind == np.uint8 else 1, kind)
  images[..., 1:] = 0
  contact_sheet_figure(images, [f"a very long <name> with a $ and $$ {k}" for k in range(count)], path, title="t")
  assert has(opened(path), (255, 0, 0)) == (channels == 3)


def test_contact_sheet_refuses_no_images_and_missing_names(tmp_path):
  with pytest.raises(ValueError, match="at least one image"):
    contact_sheet_figure(np.zeros((0, 4, 4, 3)), [], tmp_path / "sheet.png")
  with pytest.raises(ValueError, match="a name for each of 2 classes, got 1"):
    contact_sheet_figure(np.zeros((2, 4, 4, 3)), ["a"], tmp_path / "sheet.png")
