"""What the benchmarks' commands have in common: their flags of timing and of tasks, and how they are run."""

from collections.abc import Callable
from typing import NamedTuple

import tyro

from metajax.data import episodes, load
from metajax.types import Episode

WAYS, SHOTS = 5, 1


class Timing(NamedTuple):
  """How long programs are timed, and whether what is found is kept."""

  seconds: float = 1.0
  """How long a round of one program takes at least."""
  rounds: int = 3
  """How many rounds, alternating between the programs; the median counts."""
  record: bool = False
  """Write the records to benchmarks/results."""


class Tasks(NamedTuple):
  """Tasks of characters, 5-way 1-shot, and the conv4 that learns them."""

  tasks: int = 8
  """Tasks a step, 5-way 1-shot."""
  queries: int = 15
  """Query images of each class."""
  filters: int = 64
  """Of each of conv4's layers."""

  def batch(self) -> Episode:
    """The first batch of them."""
    return next(
      episodes(load("glyphs", "train"), ways=WAYS, shots=SHOTS, queries=self.queries, meta_batch_size=self.tasks)()
    )


def run_main(main: Callable):
  """Runs a benchmark by its command line; a group's flags have the names of its fields."""
  tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
