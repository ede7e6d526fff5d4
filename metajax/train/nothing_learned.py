"""Whether a training learned anything: what stands still, and what does no better than chance, says so."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from metajax import checks

STANDSTILL = 100  # steps


class BesideChance(NamedTuple):
  """A score, and what one has that knows nothing.

  Attributes:
    name: of the score.
    value: the score.
    interval: half the width of its 95% interval; None or infinite where there is none.
    chance: what is scored without having learned anything.
    better: "larger" or "smaller".
  """

  name: str
  value: float
  interval: float | None
  chance: float
  better: Literal["larger", "smaller"] = "larger"


def nothing_learned(
  metrics: Sequence[dict], scores: Sequence[BesideChance] = (), *, steps: int = STANDSTILL
) -> list[str]:
  """What says that a training learned nothing, a sentence each; none of one that learned something.

  That is a gradient whose norm was exactly 0 in the last `steps` steps, or in all where there were fewer: a rate that
  is too high leaves a network whose outputs no longer depend on its inputs, and nothing of it is infinite. And it is a
  score that is not better than chance by more than its interval.

  Args:
    metrics: rows `{"step": int, "grad_norm": float, ...}`, each the mean over the steps since the row before, as
      `report.read_metrics` gives them.
    scores: of what was trained, on data that it was not trained on.
    steps: how long a gradient has to be 0.

  Raises:
    ValueError: if `steps` is no whole number of at least 1, or the `better` of a score is neither.
  """
  checks.count("steps", steps)
  for score in scores:
    checks.choice(f"what is better of {score.name}", score.better, ("larger", "smaller"))
  still, last = _standstill(metrics)
  said = []
  if last and still >= min(steps, last):
    said.append(f"the gradient was exactly 0 in the last {still:,} of {last:,} steps, in which nothing was learned")
  for score in filter(_at_chance, scores):
    beside = f"{score.value:g} ± {score.interval:g}, where chance has {score.chance:g}"
    said.append(f"{score.name} is no better than chance: {beside}")
  return said


def _standstill(metrics) -> tuple[int, int]:
  """For how many steps the gradient has been 0 at the end, and the last step."""
  rows = [(row["step"], row["grad_norm"]) for row in metrics if "grad_norm" in row]
  last = rows[-1][0] if rows else 0
  return last - max((step for step, norm in rows if norm != 0), default=0), last


def _at_chance(score: BesideChance) -> bool:
  if score.interval is None or not math.isfinite(score.interval):
    return False
  ahead = score.value - score.chance if score.better == "larger" else score.chance - score.value
  return ahead <= score.interval + 1e-6 * abs(score.chance)  # an accuracy of 32 bits
