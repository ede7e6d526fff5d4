"""Test accuracies in percent from the papers, for comparison; these are not results of this project.

They stand in `experiments/published.json`, which the results page reads too. The papers report Omniglot on other splits
(vinyals or finn), not on lake's evaluation alphabets.
"""

import functools
from pathlib import Path
from typing import Any

from metajax.experiment import published

HERE = Path(__file__).resolve().parents[1]


@functools.cache
def _figures() -> list[dict]:
  return published.read(HERE)


def accuracy(learner: str, query_norm: str, data: str, ways: int, shots: int) -> float | None:
  """Returns the published accuracy in percent, or None."""
  return _figure(learner=learner, measure="accuracy", data=data, policy=query_norm, ways=ways, shots=shots)


def representation(learner: str, measure: str, data: str) -> float | None:
  """Returns the published accuracy of frozen features in percent, or None."""
  return _figure(learner=learner, measure=measure, data=data)


def one_shot_error(learner: str, data: str) -> float | None:
  """Returns the published error in percent on Lake's 20 fixed runs within an alphabet, or None."""
  return _figure(learner=learner, measure="one_shot_error", data=data)


def one_shot_errors(data: str) -> dict[str, float]:
  """Returns all published errors in percent on those runs, by learner."""
  return {
    one["learner"]: one["value"] for one in _figures() if (one["measure"], one["data"]) == ("one_shot_error", data)
  }


def _figure(**record: Any) -> float | None:
  return published.figure(_figures(), record)
