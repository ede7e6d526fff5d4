"""Published figures stand here a second time, as their papers have them: a figure that changes does so in both."""

import pytest

from experiments.families.published import accuracy, one_shot_error, one_shot_errors, representation

OMNIGLOT = """
  maml              transductive        98.7  99.9  95.8  98.9
  first_order_maml  transductive        98.3  99.2  89.4  97.9
  reptile           support             95.4  98.9  88.1  96.7
  reptile           transductive        97.7  99.5  89.4  97.1
  anil              transductive        -     -     96.2  98.0
  meta_sgd          transductive        99.5  99.9  95.9  99.0
  maml_plus_plus    transductive        99.5  99.9  97.7  99.3
  imaml             transductive        99.2  99.7  94.5  98.7
  prototypical      running_statistics  98.8  99.7  96.0  98.9
  matching          running_statistics  98.1  98.9  93.8  98.5
  siamese           running_statistics  97.3  98.4  88.1  97.0
  relation          running_statistics  99.6  99.8  97.6  99.1
"""


@pytest.mark.parametrize("line", OMNIGLOT.split("\n")[1:-1])
def test_figures_on_omniglot_are_those_of_the_papers(line):
  learner, query_norm, *figures = line.split()
  expected = [None if figure == "-" else float(figure) for figure in figures]
  settings = ((5, 1), (5, 5), (20, 1), (20, 5))
  named = query_norm.replace("_", " ")
  assert [accuracy(learner, named, "omniglot", *setting) for setting in settings] == expected
  assert accuracy(learner, named, "glyphs", 5, 1) is None and accuracy(learner, named, "omniglot", 5, 2) is None


def test_figures_of_representations_are_those_that_were_reported():
  assert representation("simclr", "linear_probe", "cifar10") == 90.7
  assert representation("simclr", "knn", "cifar10") == 84.8
  assert representation("simclr", "knn", "glyphs") is None


def test_errors_of_one_shot_runs_are_those_of_the_papers():
  assert one_shot_errors("omniglot") == {"people": 4.5, "siamese": 8.0, "prototypical": 13.7}
  assert one_shot_error("siamese, distorted", "omniglot") == 8.0 and one_shot_error("siamese", "glyphs") is None
