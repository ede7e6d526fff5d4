"""Parts of networks that experiments share: heads of learners that adapt, and how a step's convolutions are run."""

from typing import Literal

from metajax.compose import linear, prepared, repeated_for_all_ways, zeros_for_all_ways
from metajax.networks.linen.conv4 import Convolution
from metajax.types import Network
from metajax.views.image import centred

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


def in_the_middle(encoder: Network) -> Network:
  """The encoder on characters that were brought to the middle and to one size."""
  view = centred()
  return prepared(encoder, lambda picture: view(None, picture))


def convolution_for(tasks: int) -> Convolution:
  """XLA's own convolution, the faster one on a CPU, where a step is one task and runs outside of any loop over tasks.

  Inside of a loop its gradient takes some seventy times as long.
  """
  return "native" if tasks == 1 else "slices"
