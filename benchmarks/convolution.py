"""The claim: under MAML on a CPU, conv4 with shifted slices is many times faster than with XLA's convolution.

    python -m benchmarks.convolution --record     # writes benchmarks/results/convolution.json

Two minutes on 2 CPU cores.
"""

import statistics

from benchmarks.command import Tasks, Timing, run_main
from benchmarks.page import write
from benchmarks.step import alternate, maml_step
from metajax.experiment.records import stamped as measured


def main(
  few_shot: Tasks = Tasks(tasks=4),
  inner_steps: int = 1,
  timing: Timing = Timing(seconds=8.0),
):
  """Measures MAML's tasks per second with both convolutions, in alternating rounds, and its memory from 4 to 64 tasks.

  Args:
    few_shot: Tasks of a step, and the network.
    inner_steps: Inner-loop steps.
    timing: Timing rounds.
  """
  batch, filters, tasks = few_shot.batch(), few_shot.filters, few_shot.tasks
  steps = {name: maml_step(name, batch, inner_steps, filters) for name in ("slices", "native")}
  calls = alternate(steps, timing.rounds, timing.seconds)
  rates = {name: [tasks * rate for rate in some] for name, some in calls.items()}
  common = {
    "benchmark": "convolution",
    "ways": 5,
    "shots": 1,
    "queries": few_shot.queries,
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
    memory = maml_step("slices", few_shot._replace(tasks=count).batch(), inner_steps, filters).temporary_mebibytes
    print(f"{count:3} tasks: {memory:.2f} MiB of temporary memory")
    found.append(measured(**common, measure="temporary memory", tasks=count, value=round(memory, 2), unit="MiB"))
  if timing.record:
    write("convolution", found)


if __name__ == "__main__":
  run_main(main)
