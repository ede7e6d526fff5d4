"""The claim: the input pipeline draws tasks many times faster than a trainer on the same machine takes them.

python -m benchmarks.input_pipeline --record     # writes benchmarks/results/input_pipeline.json

About 20 seconds on 2 CPU cores, and about 7,000 tasks/s there (5-way 1-shot, 15 queries, 28x28), where second-order
MAML takes some 65.
"""

import itertools
import statistics
import sys
import time
from pathlib import Path

import tyro

from experiments import records
from metajax.data import Source, episodes, load

RESULTS = Path(__file__).resolve().parent / "results"


def pipeline_tasks_per_second(
  source: Source, *, ways: int, shots: int, queries: int, tasks: int, seconds: float, start: int = 0
) -> float:
  """Tasks per second that `episodes` delivers as host arrays, over at least `seconds`, when nothing else is done."""
  batches = episodes(source, ways=ways, shots=shots, queries=queries, tasks=tasks)(start=start)
  for _ in range(20):  # the pipeline sizes its buffers, and what they held is used up
    next(batches)
  began = time.perf_counter()
  for count in itertools.count(1):
    next(batches)
    elapsed = time.perf_counter() - began
    if elapsed >= seconds:
      return count * tasks / elapsed


def main(
  data: str = "glyphs",
  split: str = "train",
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  tasks: int = 32,
  seconds: float = 3.0,
  rounds: int = 5,
  record: bool = False,
):
  """Measures the input pipeline's tasks per second: the median of some rounds.

  Args:
    data: a data set, as for `metajax.data.load`.
    split: its part.
    ways: classes a task.
    shots: support pictures of each class.
    queries: query pictures of each class.
    tasks: tasks a batch.
    seconds: how long a round takes.
    rounds: how many rounds, each from a step of its own.
    record: write the record to benchmarks/results.
  """
  task = {"ways": ways, "shots": shots, "queries": queries, "tasks": tasks}
  source = load(data, split)
  rates = [pipeline_tasks_per_second(source, **task, seconds=seconds, start=1_000_000 * turn) for turn in range(rounds)]
  value = statistics.median(rates)
  print(f"{value:.0f} tasks/s (rounds: {', '.join(f'{rate:.0f}' for rate in rates)})")
  if record:
    measured = records.record(
      benchmark="input_pipeline", measure="episodes", value=round(value), unit="tasks/s", data=data, split=split, **task
    )
    command = " ".join(["python -m benchmarks.input_pipeline", *sys.argv[1:]])
    records.write(RESULTS / "input_pipeline.json", [{**measured, "command": command}])


if __name__ == "__main__":
  tyro.cli(main)
