"""What a run shows: lines or a bar, and pictures that open."""

import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from table_of_learners import one_hot

from metajax import Episode, Examples
from metajax.report import curves_figure, episode_figure, progress

METRICS = {"loss": 1.25, "accuracy": 0.5, "tiny": 0.00012, "gradient_norm": 7.0, "steps_per_second": 10.0}


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


def test_progress_ends_its_bar_where_training_fails():
  console = Console(file=io.StringIO(), force_terminal=True)
  with pytest.raises(FloatingPointError), progress(4, rows=8, console=console):
    raise FloatingPointError
  assert "\x1b[?25h" in console.file.getvalue()  # the cursor is back


def episode(ways, shots, query_classes, channels=1):
  random = np.random.default_rng(0)
  classes = np.repeat(np.arange(ways), shots)
  examples = lambda classes: Examples(random.uniform(size=(len(classes), 5, 4, channels)), one_hot(classes, ways))
  return Episode(examples(classes), examples(query_classes))


def opened(path):
  with Image.open(path) as picture:
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB")).astype(int)


GREEN, RED = (44, 160, 44), (214, 39, 40)  # tab:green, tab:red


def has(picture, colour):
  return np.any(np.all(np.abs(picture - np.array(colour)) < 8, axis=-1))


@pytest.mark.parametrize(
  ("ways", "shots", "query_classes", "channels"),
  [
    (3, 2, [0, 0, 1, 1, 2, 2], 1),
    (2, 1, [0, 1], 3),
    (3, 1, [0, 0, 0, 2], 1),  # uneven, and one way without a query
    (30, 1, np.arange(30), 1),  # more ways than letters
  ],
)
def test_episode_figure_writes_a_picture_and_the_folders_it_needs(tmp_path, ways, shots, query_classes, channels):
  path = tmp_path / "new" / "folder" / "episode.png"
  one = episode(ways, shots, query_classes, channels)
  episode_figure(one, one.query.labels, path, title="a title")
  assert has(opened(path), GREEN)


def test_episode_figure_frames_right_answers_green_and_wrong_ones_red(tmp_path):
  one = episode(2, 1, [0, 1])
  for name, logits, colours in (
    ("right", [[1, 0], [0, 1]], (True, False)),
    ("wrong", [[0, 1], [1, 0]], (False, True)),
    ("half", [[1, 0], [1, 0]], (True, True)),
  ):
    episode_figure(one, np.array(logits), tmp_path / f"{name}.png")
    picture = opened(tmp_path / f"{name}.png")
    assert (has(picture, GREEN), has(picture, RED)) == colours


def test_ways_beyond_the_letters_are_named_by_their_number(tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **settings: drawn.append(figure))
  one = episode(28, 1, np.arange(28))
  episode_figure(one, np.roll(one.query.labels, 1, axis=-1), tmp_path / "episode.png")
  titles = [axes.get_title() for axes in drawn[0].axes if axes.get_title()]
  names = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "26", "27"]
  assert titles[::2] == names and titles[1::2] == [
    *names[1:],
    "A",
  ]  # each support picture, then what its query is taken for


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
  purple = (148, 103, 189)
  assert has(with_points, purple) and not has(without, purple)
