"""Figures of a run: what they compute is right, and they open whatever they are given."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from png_pixels import coarse, opened  # noqa: F401  (a fixture)

from metajax.report import (
  confusion_figure,
  confusion_percentages,
  learning_curves_figure,
  map_figure,
  predictions_figure,
  ranking_figure,
)
from metajax.report.drawing import as_shown, shorten, wrapped
from metajax.report.embedding_map import map_of, spread

NAMES = ["a $x$ & <b>", "动物", "x" * 60, "d", "e", "f"]


def drawn(path):
  pixels = opened(path)
  assert np.all(pixels[:3] == 255) or np.all(pixels[:, :3] == 255)  # the paper is white
  assert pixels.std() > 1
  return pixels


@pytest.fixture
def figures(monkeypatch):
  """The figures that were drawn, which are not written."""
  seen = []
  monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **settings: seen.append(figure))
  return seen


def rows(count, **metrics):
  return [{"step": 100 * k, "time": 0.0, **{n: f(k) for n, f in metrics.items()}} for k in range(1, count + 1)]


def panels(figure):
  return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def test_curves_have_a_panel_each_in_order_and_no_panel_for_the_clock(figures, tmp_path):
  given = rows(5, grad_norm=lambda k: k, steps_per_second=lambda k: k, data_wait_fraction=lambda k: 0.5)
  given = [row | {"entropy": 1.0, "loss": 2.0, "accuracy": 0.5} for row in given]
  learning_curves_figure([*given, {"step": 500, "time": 0.0, "validation": 97.0}], tmp_path / "x.png")
  assert list(panels(figures[0])) == ["loss", "accuracy", "validation", "entropy", "grad norm"]


def test_a_loss_over_more_than_a_decade_has_a_logarithmic_axis(figures, tmp_path):
  for scale, last in (("linear", 0.11), ("log", 0.09), ("linear", -1.0)):
    learning_curves_figure([*rows(3, loss=lambda k: 1.0), {"step": 400, "loss": last}], tmp_path / "x.png")
    assert panels(figures[-1])["loss"].get_yscale() == scale


def test_the_chosen_step_is_marked_with_its_score(figures, tmp_path):
  given = rows(9, loss=lambda k: 1 / k, validation=lambda k: 90 + k)
  learning_curves_figure(given, tmp_path / "x.png", chosen_step=700)
  assert panels(figures[0])["validation"].get_title(loc="right") == "97 at the chosen step 700"
  assert all([700, 700] in [list(line.get_xdata()) for line in axes.lines] for axes in panels(figures[0]).values())


def test_many_points_are_smoothed_without_a_shift_and_few_are_not(figures, tmp_path):
  learning_curves_figure(rows(200, loss=lambda k: 300.0 - k), tmp_path / "x.png")
  learning_curves_figure(rows(20, loss=lambda k: 300.0 - k), tmp_path / "x.png")
  many, few = (panels(figure)["loss"].lines for figure in figures)
  assert len(many) == 2 and len(few) == 1
  np.testing.assert_allclose(many[1].get_ydata()[10:-10], many[0].get_ydata()[10:-10])


@pytest.mark.parametrize(
  "given",
  [
    rows(1, loss=lambda k: 1.0),
    rows(3, loss=lambda k: 0.0),
    rows(90, loss=lambda k: float("nan") if k % 3 else 1 / k, accuracy=lambda k: float("inf") if k == 2 else 0.5),
    rows(2, **{"a_$strange$_name": lambda k: 1e-30 * k, "b": lambda k: 1e30, "c": lambda k: -1.0, "d": lambda k: k}),
  ],
)
def test_curves_are_drawn_whatever_their_values(tmp_path, given):
  learning_curves_figure(given, tmp_path / "new" / "curves.png", chosen_step=100)
  drawn(tmp_path / "new" / "curves.png")


@pytest.mark.parametrize("given", [[], [{"step": 1, "time": 0.0}], [{"step": 1, "loss": float("nan")}]])
def test_curves_of_nothing_are_refused(tmp_path, given):
  with pytest.raises(ValueError, match="rows with metrics"):
    learning_curves_figure(given, tmp_path / "x.png")


def test_confusion_of_a_perfect_classifier_is_diagonal():
  asked = np.array([[10, 4, 0], [3, 7, 2], [0, 5, 5]])
  percent = confusion_percentages(np.diag([10, 7, 5]), asked)
  np.testing.assert_array_equal(percent, [[100, 0, np.nan], [0, 100, 0], [np.nan, 0, 100]])


def test_confusion_is_of_the_times_that_the_answer_was_among_the_ways():
  np.testing.assert_array_equal(confusion_percentages([[3, 1], [2, 8]], [[4, 2], [10, 10]]), [[75, 50], [20, 80]])


@pytest.mark.parametrize(
  ("counts", "asked"),
  [(np.ones((2, 3)), np.ones((2, 3))), (np.ones((2, 2)), np.ones((3, 3))), ([[2]], [[1]]), ([[-1]], [[1]]), ([], [])],
)
def test_confusion_of_counts_that_cannot_be_is_refused(counts, asked):
  with pytest.raises(ValueError, match="expected"):
    confusion_percentages(counts, asked)


@pytest.mark.parametrize(
  ("classes", "images", "numbers"), [(1, False, 1), (6, True, 36), (13, False, 13), (26, True, 0)]
)
def test_confusion_writes_numbers_while_there_is_room(figures, tmp_path, classes, images, numbers):
  asked = np.full((classes, classes), 8)
  shown = np.zeros((classes, 5, 5, 3)) if images else None
  confusion_figure(asked // 4, asked, [f"class {k}" for k in range(classes)], tmp_path / "x.png", shown)
  said = [text.get_text() for text in figures[0].axes[0].texts]
  assert said.count("25") == numbers and said.count("class 0") == 2


@pytest.mark.parametrize(("wrong", "channels"), [(0, None), (1, 1), (1, 3)])
def test_confusion_opens(tmp_path, wrong, channels):
  counts = np.eye(6) * 9 + wrong * np.eye(6, k=1)
  images = None if channels is None else np.zeros((6, 8, 5, channels), np.uint8)
  confusion_figure(counts, np.full((6, 6), 9), NAMES, tmp_path / "new" / "x.png", images, title="a $ title")
  drawn(tmp_path / "new" / "x.png")


def blobs(classes=6, each=5, width=8):
  random = np.random.default_rng(0)
  labels = np.repeat(np.arange(classes), each)
  return 5 * random.normal(size=(classes, width))[labels] + random.normal(size=(len(labels), width)), labels


def test_the_map_is_the_same_each_time_and_whatever_the_scale():
  points, _ = blobs()
  np.testing.assert_array_equal(map_of(points), map_of(points.copy()))
  np.testing.assert_array_equal(map_of(points), map_of(2.0**80 * points))


def test_the_map_keeps_classes_that_lie_apart_apart():
  points, labels = blobs()
  places = map_of(points)
  distances = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(len(places))
  assert np.mean(labels[distances.argmin(1)] == labels) > 0.9


@pytest.mark.parametrize("shape", [(1, 5), (1, 1), (2, 3), (9, 4), (30, 1), (30, 2)])
def test_few_points_or_axes_are_mapped_by_their_principal_components(shape):
  points = np.random.default_rng(0).normal(size=shape)
  places = map_of(points)
  assert places.shape == (shape[0], 2)
  if shape[1] <= 2:  # nothing is lost: the distances are the same, up to one scale
    apart = lambda x: np.linalg.norm(x[:, None] - x, axis=-1)
    scale = np.abs(points - points.mean(0)).max() or 1
    np.testing.assert_allclose(scale * apart(places), apart(points), atol=1e-9)


def test_embeddings_that_all_are_one_have_a_map():
  np.testing.assert_array_equal(map_of(np.ones((20, 5))), np.zeros((20, 2)))


@pytest.mark.parametrize("images", [None, np.zeros((6, 5, 7, 1))])
def test_the_map_opens(tmp_path, images):
  points, labels = blobs()
  map_figure(points, labels, NAMES, tmp_path / "new" / "map.png", images, title="a $ title")
  drawn(tmp_path / "new" / "map.png")


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"embeddings": np.where(np.arange(8) == 3, np.nan, blobs()[0])}, "finite embeddings, got 30 of 30"),
    ({"embeddings": np.zeros((0, 3))}, r"embeddings \[n, d\]"),
    ({"labels": np.zeros(30)}, "30 integer labels, got float64"),
    ({"labels": np.arange(30)}, "labels of 0 to 5"),
    ({"images": np.zeros((2, 4, 4, 3))}, "an image for each of 6 classes, got 2"),
  ],
)
def test_a_map_of_what_does_not_fit_is_refused(tmp_path, change, said):
  points, labels = blobs()
  given = {"embeddings": points, "labels": labels, "names": NAMES, "path": tmp_path / "map.png"} | change
  with pytest.raises(ValueError, match=said):
    map_figure(**given)
  assert not (tmp_path / "map.png").exists()


def test_marks_of_a_map_do_not_lie_on_one_another():
  corner, sizes = np.array([[0, 0], [500, 400]]), np.full((20, 2), (60, 20))
  places = spread(np.random.default_rng(0).normal(250, 20, (20, 2)), sizes, corner)
  gap = np.abs(places[:, None] - places) + 1e9 * np.eye(20)[..., None]
  assert np.all(np.any(gap >= sizes[0], -1))
  assert np.all((places >= corner[0] + sizes / 2) & (places <= corner[1] - sizes / 2))


def test_drawings_are_ink_on_paper_and_photographs_are_left():
  drawing, photograph = np.zeros((1, 4, 4, 1), np.uint8), np.full((1, 4, 4, 1), 0.3)
  drawing[0, 0] = 255
  assert np.all(as_shown(drawing)[0, 0] == 0) and np.all(as_shown(drawing)[0, 1:] == 1)
  np.testing.assert_allclose(as_shown(photograph), 0.3)
  with pytest.raises(ValueError, match=r"got shape \[4, 4, 2\]"):
    as_shown(np.zeros((4, 4, 2)))


def test_a_long_name_loses_its_middle():
  assert shorten("CYRILLIC SMALL LETTER ZHE", 13) == "CYRILL…ER ZHE" and shorten("short\nname", 13) == "short name"
  lines = wrapped("LATIN CAPITAL LETTER E WITH CARON", 12, 2).split("\n")
  assert len(lines) == 2 and max(map(len, lines)) <= 12 and lines[1].endswith("CARON")
  assert max(map(len, wrapped("x" * 99, 10, 2).split("\n"))) <= 10


def test_answers_stand_below_what_was_asked_with_the_truth_where_they_are_wrong(figures, tmp_path):
  images = np.random.default_rng(0).random((5, 6, 9, 3))
  predictions_figure(images, NAMES[:5], [*NAMES[:4], NAMES[0]], tmp_path / "x.png", confidence=np.full(5, 0.25))
  said = [axes.get_xlabel() for axes in figures[0].axes][:5]
  assert said[3] == "d (25%)" and said[4] == f"{NAMES[0]} (25%)\ntruth: e"
  for images, answers in ((np.zeros((0, 4, 4, 1)), []), (np.zeros((2, 4, 4, 1)), ["a"])):
    with pytest.raises(ValueError, match="expected"):
      predictions_figure(images, NAMES[: len(images)], answers, tmp_path / "x.png")


def test_a_ranking_has_the_highest_above_and_baselines_gray(figures, tmp_path):
  ranking_figure({"$x$": {"a": (3.0, 1.0), "b": (50.0, 2.0)}, "y": {"b": (1, 0)}}, tmp_path / "x.png", baselines=("a",))
  axes = figures[0].axes[0]
  assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
  assert [bar.get_width() for bar in axes.patches] == [3, 50]
  assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()
  with pytest.raises(ValueError, match=r"at least one value each, got \['y'\]"):
    ranking_figure({"y": {}}, tmp_path / "x.png")


def test_figures_of_answers_and_ranks_open(tmp_path):
  predictions_figure(np.zeros((1, 4, 20, 1), np.uint8) + 9, ["x"], ["y"], tmp_path / "asked.png")
  ranking_figure({str(i): dict.fromkeys(NAMES, (i, 0.5)) for i in range(3)}, tmp_path / "ranks.png")
  assert drawn(tmp_path / "asked.png").size and drawn(tmp_path / "ranks.png").size
