"""The claim: ANIL, which embeds each image once, is as fast with ten steps of its head as with five.

    python -m benchmarks.head_alone --record     # writes benchmarks/results/head_alone.json

A minute on 2 CPU cores.
"""

import statistics

import optax

from benchmarks.command import SHOTS, WAYS, Tasks, Timing, run_main
from benchmarks.page import write
from benchmarks.step import alternate, training_step
from metajax import gradient_steps
from metajax.adapt import only
from metajax.compose import linear, with_head
from metajax.experiment.records import stamped as measured
from metajax.learners import anil, maml
from metajax.networks import conv4


def main(
  few_shot: Tasks = Tasks(),
  steps: tuple[int, ...] = (1, 5, 10),
  timing: Timing = Timing(seconds=2.0),
):
  """Measures tasks per second of ANIL, of MAML, and of MAML that adapts only the head of its network.

  Args:
    few_shot: Tasks of a step, and the network.
    steps: Numbers of inner steps to measure.
    timing: Timing rounds.
  """
  batch, tasks, queries, filters = few_shot.batch(), *few_shot
  encoder, head = conv4(filters, downsample="stride", pool="mean"), linear(WAYS)
  network, optimizer = with_head(encoder, head), optax.adam(1e-3)
  learners = {}
  for count in steps:
    adapt = gradient_steps(optax.sgd(0.1), count)
    learners["ANIL", count] = anil(encoder, head, adapt)
    learners["MAML, the head alone by only", count] = maml(network, only("head", adapt))
    learners["MAML", count] = maml(network, adapt)
  programs = {name: training_step(learner, optimizer, batch) for name, learner in learners.items()}
  found = []
  for (name, count), rates in alternate(programs, timing.rounds, timing.seconds).items():
    rate = tasks * statistics.median(rates)
    memory = programs[name, count].temporary_mebibytes
    print(f"{name:<30} K = {count:<3} {rate:8.2f} tasks/s, {memory:.1f} MiB")
    said = {"measure": f"{name}, K = {count}", "tasks": tasks, "value": round(rate, 2), "unit": "tasks/s"}
    said |= {"inner_steps": count, "temporary_mebibytes": round(memory, 1)}
    found.append(measured(benchmark="head_alone", ways=WAYS, shots=SHOTS, queries=queries, filters=filters, **said))
  if timing.record:
    write("head_alone", found)


if __name__ == "__main__":
  run_main(main)
