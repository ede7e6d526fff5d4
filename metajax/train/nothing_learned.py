"""Detection of failed training: zero gradients, and scores no better than chance."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from metajax import checks

STANDSTILL = 100  # steps


class BesideChance(NamedTuple):
  """A score and its chance level.

  Attributes:
    name: Name of the score.
    value: The score.
    interval: Half the width of its 95% interval; None or infinite if unknown.
    chance: Expected score of an untrained model.
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
  """Returns the signs that training learned nothing, one sentence each; an empty list if it learned something.

  The signs are a gradient norm of exactly 0 in the last `steps` steps (or in all steps of a shorter run), and a score
  that does not beat chance by more than its interval. After too high a learning rate the outputs may no longer depend
  on the inputs: the gradient is then zero while all values stay finite.

  Args:
    metrics: Rows `{"step": int, "grad_norm": float, ...}` from `report.read_metrics`, each the mean over the steps
      since the previous row.
    scores: Scores of the trained model on held-out data.
    steps: Number of final steps whose gradient must be 0.

  Returns:
    A list of sentences.

  Raises:
    ValueError: if `steps` is not an integer of at least 1, or `better` of a score is neither "larger" nor "smaller".
  """
  checks.count("steps", steps)
  for score in scores:
    checks.choice(f"`better` of {score.name}", score.better, ("larger", "smaller"))
  still, last = _standstill(metrics)
  said = []
  if last and still >= min(steps, last):
    said.append(f"the gradient was exactly 0 in the last {still:,} of {last:,} steps, in which nothing was learned")
  for score in filter(_at_chance, scores):
    beside = f"{score.value:g} ± {score.interval:g}, chance level {score.chance:g}"
    said.append(f"{score.name} is no better than chance: {beside}")
  return said


def _standstill(metrics) -> tuple[int, int]:
  """Returns the number of final steps with gradient 0, and the last step."""
  rows = [(row["step"], row["grad_norm"]) for row in metrics if "grad_norm" in row]
  last = rows[-1][0] if rows else 0
  return last - max((step for step, norm in rows if norm != 0), default=0), last


def _at_chance(score: BesideChance) -> bool:
  if score.interval is None or not math.isfinite(score.interval):
    return False
  ahead = score.value - score.chance if score.better == "larger" else score.chance - score.value
  return ahead <= score.interval + 1e-6 * abs(score.chance)  # tolerance of 32-bit arithmetic
