"""The claim: the cost of a training step of MAML's successors, relative to MAML with as many inner steps.

    python -m benchmarks.successors --record     # writes benchmarks/results/successors.json

Four minutes on 2 CPU cores, mostly for compilation.
"""

import statistics
from typing import NamedTuple

import optax

from benchmarks.command import SHOTS, WAYS, Tasks, Timing, run_main
from benchmarks.page import write
from benchmarks.step import alternate, training_step
from metajax import Learner, gradient_steps
from metajax.compose import film, linear, with_head
from metajax.experiment.records import stamped as measured
from metajax.learners import anil, cavia, imaml, maml, maml_plus_plus, meta_sgd, proto_maml
from metajax.networks import conv4, conv_blocks


class Row(NamedTuple):
  """A learner, and the number of inner steps of the MAML to compare with."""

  learner: Learner
  steps: int


def learners_of(filters: int, steps: tuple[int, ...], implicit_steps: int, cg_steps: int) -> dict[str, Row]:
  """All learners by name; MAML is `MAML, K = steps` for each number of steps."""
  layers = {"downsample": "stride", "pool": "mean"}
  encoder, head, always = conv4(filters, **layers), linear(WAYS), 10**9
  network = with_head(encoder, head)
  before = conv_blocks(3, filters, downsample="stride", pool="none")
  in_context = with_head(film(before, conv_blocks(1, filters, **layers)), head)
  found = {}
  for k in steps:
    adapt = gradient_steps(optax.sgd(0.1), k)
    first = gradient_steps(optax.sgd(0.1), k, gradient="first_order")
    every, last = {"multi_step_until": always}, {"multi_step_until": 0}
    found |= {
      f"{name}, K = {k}": Row(learner, k)
      for name, learner in {
        "MAML": maml(network, adapt),
        "MAML, first order": maml(network, first),
        "ANIL": anil(encoder, head, adapt),
        "Meta-SGD": meta_sgd(network, k),
        "MAML++, the loss of all steps": maml_plus_plus(network, k, **every),
        "MAML++, the loss of all steps, first order": maml_plus_plus(network, k, gradient="first_order", **every),
        "MAML++, the last loss": maml_plus_plus(network, k, **last),
        "CAVIA": cavia(in_context, 100, adapt),
        "Proto-MAML": proto_maml(encoder, adapt),
      }.items()
    }
  name = f"iMAML, {implicit_steps} steps, {cg_steps} of conjugate gradients"
  return found | {name: Row(imaml(network, optax.sgd(0.1), implicit_steps, cg_steps=cg_steps), max(steps))}


def main(
  few_shot: Tasks = Tasks(),
  steps: tuple[int, ...] = (1, 5),
  implicit_steps: int = 16,
  cg_steps: int = 5,
  timing: Timing = Timing(),
):
  """Measures time and temporary memory of a training step of MAML and its successors, 5-way 1-shot.

  Args:
    few_shot: Tasks of a step, and the network.
    steps: Numbers of inner steps to measure.
    implicit_steps: Inner steps of iMAML, which is compared with the MAML of most inner steps.
    cg_steps: Conjugate-gradient steps of iMAML.
    timing: Timing rounds.
  """
  batch, tasks, queries, filters = few_shot.batch(), *few_shot
  rows, optimizer = learners_of(filters, steps, implicit_steps, cg_steps), optax.adam(1e-3)
  programs = {name: training_step(row.learner, optimizer, batch) for name, row in rows.items()}
  rates, found = alternate(programs, timing.rounds, timing.seconds), []
  for name, row in rows.items():
    of_maml = f"MAML, K = {row.steps}"
    slower = statistics.median(base / own for base, own in zip(rates[of_maml], rates[name], strict=True))
    memory = programs[name].temporary_mebibytes
    larger = memory / programs[of_maml].temporary_mebibytes
    rate = tasks * statistics.median(rates[name])
    print(f"{name:<52} {rate:8.2f} tasks/s, {slower:5.2f} x time, {memory:6.1f} MiB, {larger:5.2f} x, of {of_maml}")
    said = {"measure": name, "tasks": tasks, "value": round(rate, 2), "unit": "tasks/s", "inner_steps": row.steps}
    said |= {"beside": of_maml, "time_in_mamls": round(slower, 2), "memory_in_mamls": round(larger, 2)}
    said |= {"temporary_mebibytes": round(memory, 1), "compile_seconds": round(programs[name].compile_seconds, 1)}
    found.append(measured(benchmark="successors", ways=WAYS, shots=SHOTS, queries=queries, filters=filters, **said))
  if timing.record:
    write("successors", found)


if __name__ == "__main__":
  run_main(main)
