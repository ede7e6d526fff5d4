"""The heads of learners that adapt, and how many ways each can be tested at."""

from typing import Literal

from metajax.compose import linear, repeated_for_all_ways, zeros_for_all_ways
from metajax.types import Network

Head = Literal["fixed", "repeated", "zeros"]


def linear_head(kind: Head, ways: int) -> tuple[Network, dict]:
  """A linear head, and what a learner is to be given with it.

  Args:
    kind: "fixed" is for as many ways as in training; any number can be tested where the learned outputs are "repeated",
      or where a task begins at "zeros".
    ways: in training.
  """
  if kind == "zeros":
    return linear(1), {"start": zeros_for_all_ways}
  return linear(ways), ({"start": repeated_for_all_ways} if kind == "repeated" else {})
