"""The claim: the input pipeline draws tasks many times faster than a trainer on the same machine takes them.

python -m benchmarks.input_pipeline --record     # writes benchmarks/results/input_pipeline.json

About a minute on 2 CPU cores. The trainer is second-order MAML, conv4-64, one inner step.
"""

import itertools
import statistics
import time

import tyro

from benchmarks.page import write
from benchmarks.step import calls_per_second, maml_step
from experiments.records import record as measured
from metajax.data import Source, episodes, load


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
  """Measures the tasks per second of the pipeline and of a trainer, in alternation: the median of some rounds.

  Args:
    data: a data set, as for `metajax.data.load`.
    split: its part.
    ways: classes a task.
    shots: support pictures of each class.
    queries: query pictures of each class.
    tasks: tasks a batch.
    seconds: how long a round takes.
    rounds: how many rounds, each from a step of its own.
    record: write the records to benchmarks/results.
  """
  task = {"ways": ways, "shots": shots, "queries": queries, "tasks": tasks}
  source = load(data, split)
  step = maml_step("slices", next(episodes(source, **task)()))
  pipeline, trainer = [], []
  for turn in range(rounds):
    pipeline.append(pipeline_tasks_per_second(source, **task, seconds=seconds, start=1_000_000 * turn))
    trainer.append(tasks * calls_per_second(step, seconds))
  values = {"pipeline": statistics.median(pipeline), "trainer": statistics.median(trainer)}
  print(f"pipeline {values['pipeline']:.0f} tasks/s (rounds: {', '.join(f'{rate:.0f}' for rate in pipeline)})")
  print(f"trainer {values['trainer']:.1f} tasks/s (rounds: {', '.join(f'{rate:.1f}' for rate in trainer)})")
  print(f"the pipeline outruns the trainer {values['pipeline'] / values['trainer']:.0f} to 1")
  if record:
    write(
      "input_pipeline",
      [
        measured(benchmark="input_pipeline", measure=what, value=round(value, 1), unit="tasks/s", data=data, **task)
        for what, value in values.items()
      ],
    )


if __name__ == "__main__":
  tyro.cli(main)
