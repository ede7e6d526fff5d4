"""The claim: ANIL, which embeds each picture once, is no slower with ten steps of its head than with five.

    python -m benchmarks.head_alone --record     # writes benchmarks/results/head_alone.json

A minute on 2 CPU cores.
"""

import statistics

import optax
import tyro

from benchmarks.page import write
from benchmarks.step import alternate, compile_program
from metajax import gradient_steps
from metajax.adapt import only
from metajax.compose import linear, with_head
from metajax.data import episodes, load
from metajax.experiment.records import stamped as measured
from metajax.learners import anil, maml
from metajax.networks import conv4
from metajax.train import make_train_step, start


def main(
  tasks: int = 8,
  queries: int = 15,
  steps: tuple[int, ...] = (1, 5, 10),
  filters: int = 64,
  seconds: float = 2.0,
  rounds: int = 3,
  record: bool = False,
):
  """Measures tasks per second of ANIL and of MAML, with all or with the head alone adapted in the whole network.

  Args:
    tasks: tasks a step, 5-way 1-shot.
    queries: query pictures of each class.
    steps: numbers of inner steps.
    filters: of each of conv4's layers.
    seconds: how long a round takes at least.
    rounds: how many rounds.
    record: write the records to benchmarks/results.
  """
  batch = next(episodes(load("glyphs", "train"), ways=5, shots=1, queries=queries, tasks=tasks)())
  encoder, head = conv4(filters, downsample="stride", pool="mean"), linear(5)
  network, optimizer = with_head(encoder, head), optax.adam(1e-3)
  learners = {}
  for count in steps:
    adapt = gradient_steps(optax.sgd(0.1), count)
    learners["ANIL", count] = anil(encoder, head, adapt)
    learners["MAML, the head alone by only", count] = maml(network, only("head", adapt))
    learners["MAML", count] = maml(network, adapt)
  programs = {
    name: compile_program(make_train_step(learner, optimizer), start(learner, optimizer, batch), batch)
    for name, learner in learners.items()
  }
  found = []
  for (name, count), rates in alternate(programs, rounds, seconds).items():
    rate = tasks * statistics.median(rates)
    memory = programs[name, count].temporary_mebibytes
    print(f"{name:<30} K = {count:<3} {rate:8.2f} tasks/s, {memory:.1f} MiB")
    said = {"measure": f"{name}, K = {count}", "tasks": tasks, "value": round(rate, 2), "unit": "tasks/s"}
    said |= {"inner_steps": count, "temporary_mebibytes": round(memory, 1)}
    found.append(measured(benchmark="head_alone", ways=5, shots=1, queries=queries, filters=filters, **said))
  if record:
    write("head_alone", found)


if __name__ == "__main__":
  tyro.cli(main)
