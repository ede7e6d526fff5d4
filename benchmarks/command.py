"""Shared flags of the benchmark commands, for timing and tasks, and their command line."""

from collections.abc import Callable
from typing import NamedTuple

import tyro

from metajax import images_to_float
from metajax.data import episodes, load
from metajax.types import Episode

WAYS, SHOTS = 5, 1


class Timing(NamedTuple):
  """Timing and records."""

  seconds: float = 1.0
  """Minimum duration of a timing round of one program, in seconds."""
  rounds: int = 3
  """Number of timing rounds, alternating between the programs; the median is reported."""
  record: bool = False
  """Write the records to benchmarks/results."""


class Tasks(NamedTuple):
  """Tasks of 5-way 1-shot character classification, and the conv4 network."""

  tasks: int = 8
  """Tasks per step, 5-way 1-shot."""
  queries: int = 15
  """Query images per class."""
  filters: int = 64
  """Channels of each convolution layer of conv4."""

  def batch(self) -> Episode:
    """The first batch of tasks."""
    task = {"ways": WAYS, "shots": SHOTS, "queries": self.queries, "meta_batch_size": self.tasks}
    return images_to_float(next(episodes(load("glyphs", "train"), **task)()))


def run_main(main: Callable):
  """Runs a benchmark from the command line; flags of a group are named by its fields."""
  tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
