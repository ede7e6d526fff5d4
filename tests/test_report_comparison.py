"""The figure of what a query is compared with."""

import jax
import numpy as np
import pytest
from PIL import Image
from table_of_learners import episodes

from metajax.report import comparison_figure
from metajax.report.comparison import _in_turn


def task():
  return jax.tree.map(lambda x: x[0], episodes(0, (8, 8, 1)))


@pytest.mark.parametrize("best", ["largest", "smallest"])
def test_it_is_drawn_for_any_values(tmp_path, best):
  values = np.random.default_rng(0).normal(size=(6, 6))
  values[0] = 1  # all alike
  path = tmp_path / "new" / "figure.png"
  comparison_figure(task(), values, path, measure="distance", best=best, names=["one", "$2", "three"], title="Title")
  assert min(Image.open(path).size) > 300


def test_queries_are_taken_from_the_ways_in_turn():
  np.testing.assert_array_equal(_in_turn(np.array([0, 0, 0, 1, 2, 2])), [0, 3, 4, 1, 5, 2])


def test_what_does_not_fit_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"values \[6, 6\], .*got \[6, 3\]"):
    comparison_figure(task(), np.zeros((6, 3)), tmp_path / "a.png", measure="")
  with pytest.raises(ValueError, match="best to be 'largest' or 'smallest', got 'first'"):
    comparison_figure(task(), np.zeros((6, 6)), tmp_path / "a.png", measure="", best="first")
  with pytest.raises(ValueError, match="a name for each of 3 classes, got 1"):
    comparison_figure(task(), np.zeros((6, 6)), tmp_path / "a.png", measure="", names=["a"])
