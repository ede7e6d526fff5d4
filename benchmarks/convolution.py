"""The claim: under MAML on a CPU, conv4 by shifted slices is many times faster than by XLA's own convolution.

    python -m benchmarks.convolution --record     # writes benchmarks/results/convolution.json

Two minutes on 2 CPU cores.
"""

import statistics

import tyro

from benchmarks.page import write
from benchmarks.step import calls_per_second, maml_step
from metajax.data import episodes, load
from metajax.experiment.records import stamped as measured


def main(
  tasks: int = 4,
  queries: int = 15,
  inner_steps: int = 1,
  filters: int = 64,
  seconds: float = 8.0,
  rounds: int = 3,
  record: bool = False,
):
  """Measures MAML's tasks per second with both convolutions, in alternation, and its memory from 4 to 64 tasks.

  Args:
    tasks: tasks a step, 5-way 1-shot.
    queries: query pictures of each class.
    inner_steps: of the inner loop.
    filters: of each of conv4's layers.
    seconds: how long a round takes at least.
    rounds: how many rounds.
    record: write the records to benchmarks/results.
  """
  source = load("glyphs", "train")
  batch = lambda tasks: next(episodes(source, ways=5, shots=1, queries=queries, tasks=tasks)())
  steps = {name: maml_step(name, batch(tasks), inner_steps, filters) for name in ("slices", "native")}
  rates = {name: [] for name in steps}
  for _ in range(rounds):
    for name, step in steps.items():
      rates[name].append(tasks * calls_per_second(step, seconds))
  common = {
    "benchmark": "convolution",
    "ways": 5,
    "shots": 1,
    "queries": queries,
    "filters": filters,
    "inner_steps": inner_steps,
  }
  found = []
  for name, step in steps.items():
    rate = statistics.median(rates[name])
    print(
      f"{name:<8} {rate:8.2f} tasks/s (rounds: {', '.join(f'{r:.2f}' for r in rates[name])}), "
      f"{step.temporary_mebibytes:.1f} MiB, compiled in {step.compile_seconds:.1f} s"
    )
    found.append(
      measured(
        **common,
        measure=f"{name} convolution",
        tasks=tasks,
        value=round(rate, 2),
        unit="tasks/s",
        temporary_mebibytes=round(step.temporary_mebibytes, 1),
      )
    )
  print(f"slices are {found[0]['value'] / found[1]['value']:.1f} times as fast")
  for count in (4, 16, 64):
    memory = maml_step("slices", batch(count), inner_steps, filters).temporary_mebibytes
    print(f"{count:3} tasks: {memory:.2f} MiB of temporary memory")
    found.append(measured(**common, measure="temporary memory", tasks=count, value=round(memory, 2), unit="MiB"))
  if record:
    write("convolution", found)


if __name__ == "__main__":
  tyro.cli(main)
