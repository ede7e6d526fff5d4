"""The claim: the exact meta-gradient, mixed or in reverse, in less time and memory than others take, at any K.

    python -m benchmarks.meta_gradient --record       # all of it
    python -m benchmarks.meta_gradient --quick        # a check, 2 minutes

One network and optimizer at K = 1, 5 and 10, two ways and all peers: 5 minutes on 2 CPU cores that others used as well.
Tasks a second, compile time, temporary memory and cost in inner gradients of each way to differentiate an inner loop,
beside PyTorch's libraries where the `bench` extra is installed. Before anything is timed, all exact ways and all peers
must agree on the loss to 5 digits and on the gradient's norm to 3, in float32 or, where roundings decide, in float64.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import numpy as np
import optax
import tyro

from benchmarks import page
from benchmarks.arithmetic import flops, peak_gigaflops
from benchmarks.networks import transformer
from benchmarks.step import alternate, compile_program
from metajax import gradient_steps
from metajax.adapt import implicit
from metajax.compose import linear, with_head
from metajax.data import episodes, load
from metajax.experiment.records import stamped as measured
from metajax.learners import maml
from metajax.losses import cross_entropy
from metajax.mesh import mean_over_tasks
from metajax.networks import conv4
from metajax.types import Episode, Network

CG_STEPS = 5
EXACT = {
  "reverse": partial(gradient_steps, gradient="reverse"),
  "reverse, step again": partial(gradient_steps, gradient="reverse", remat="step"),
  "mixed": gradient_steps,
  "mixed, step again": partial(gradient_steps, remat="step"),
  "mixed, sqrt": partial(gradient_steps, remat="sqrt"),
}
MODES = {
  "first order": partial(gradient_steps, gradient="first_order"),
  **EXACT,
  "implicit": partial(implicit, strength=2.0, cg_steps=CG_STEPS),
}
RATES = {("conv4", "sgd"): 0.1, ("conv4", "adam"): 1e-3, ("transformer", "sgd"): 0.01, ("transformer", "adam"): 3e-4}
ONE_GRADIENT = "one inner gradient"
SETTING = ("network", "optimizer", "inner_steps", "measure", "device", "size", "clock")  # what a record is replaced by
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def network_of(
  name: str, *, ways: int = 5, filters: int = 64, width: int = 128, blocks: int = 4, remat_blocks: bool = False
) -> Network:
  """One of the benchmark's networks, with a linear head."""
  if name == "transformer":
    return with_head(transformer(blocks, width, remat=remat_blocks), linear(ways))
  return with_head(conv4(filters, downsample="stride", pool="mean"), linear(ways))


def optimizer_of(network: str, name: str) -> optax.GradientTransformation:
  """One of the benchmark's inner optimizers."""
  rate = RATES[network, name]
  return optax.sgd(rate) if name == "sgd" else optax.adam(rate, eps_root=1e-8)


def pictures(**task) -> Episode:
  """A batch of tasks of characters, in noise.

  Where pictures share a background, thousands of activations share one value, and a rounding that takes it across the
  kink of a ReLU changes the gradient in the second digit: no two libraries would agree in float32.
  """
  drawn = next(episodes(load("glyphs", "train"), **task)())
  noise = np.random.default_rng(0)
  noisy = lambda x: (x + 0.1 * noise.random(x.shape)).astype(np.float32)
  return Episode(*(examples._replace(inputs=noisy(examples.inputs)) for examples in drawn))


def meta_gradient(network: Network, adapt: Callable, episodes) -> tuple[Callable, tuple]:
  """A function that gives (loss, gradient norm, gradient) of MAML on a batch of tasks, and its arguments."""
  learner = maml(network, adapt)
  params, state = learner.init(jax.random.key(0), episodes)

  def run(params, state, episodes):
    differentiate = jax.value_and_grad(learner.loss, has_aux=True)
    (loss, _), gradient = differentiate(params, state, episodes, jax.random.key(0))
    return loss, optax.tree.norm(gradient), gradient

  return run, (params, state, episodes)


def inner_gradient(network: Network, episodes) -> tuple[Callable, tuple]:
  """The same for one gradient of each task's support loss, the unit of the others' cost."""

  def task(params, state, one):
    logits, _ = network.apply(params, state, one.support.inputs, train=True)
    return cross_entropy(logits, one.support.labels), ((), 1.0)

  def run(params, state, episodes):
    (loss, _), gradient = jax.value_and_grad(mean_over_tasks(task), has_aux=True)(params, state, episodes)
    return loss, optax.tree.norm(gradient), gradient

  params, state = network.init(jax.random.key(0), episodes.support.inputs[0])
  return run, (params, state, episodes)


def check_agreement(found: dict[str, tuple[float, float]]):
  """Refuses ways whose losses differ in 5 digits, or gradient norms in 3.

  Raises:
    AssertionError: with all of them.
  """
  losses, norms = np.array(list(found.values())).reshape(-1, 2).T
  spread = lambda x: np.ptp(x) / np.abs(x).max()
  if found and not (spread(losses) < 1e-5 and spread(norms) < 1e-3):
    raise AssertionError(f"expected the same loss to 5 digits and gradient norm to 3 of all, got {found}")


def _agree(found: dict, in_double: Callable[[], dict]) -> str:
  """Checks agreement in float32, or, where a rounding takes some activation across the kink of a ReLU, in float64."""
  try:
    check_agreement(found)
    return "float32"
  except AssertionError as error:
    print(f"in float64, since in float32 {error}")
    check_agreement(in_double())
    return "float64"


def _in_double(network: Network, adapts: dict[str, Callable], episodes) -> dict[str, tuple[float, float]]:
  """(loss, gradient norm) of ways to adapt, from the very same parameters, in 64 bits."""
  with jax.enable_x64(False):
    given = meta_gradient(network, gradient_steps(optax.sgd(0.1), 1), episodes)[1]
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), given)
    found = {name: jax.jit(meta_gradient(network, adapt, episodes)[0])(*wide)[:2] for name, adapt in adapts.items()}
    return {name: (float(loss), float(norm)) for name, (loss, norm) in found.items()}


def measure(setting: dict, network: Network, episodes, modes, with_peers, rounds, seconds, memory_limit) -> list[dict]:
  """The records of one network, optimizer and number of steps; a way that takes too much memory is not run."""
  optimizer, steps = optimizer_of(setting["network"], setting["optimizer"]), setting["inner_steps"]
  functions = {name: meta_gradient(network, MODES[name](optimizer, steps), episodes) for name in modes}
  functions[ONE_GRADIENT] = inner_gradient(network, episodes)
  programs = {name: compile_program(run, *arguments) for name, (run, arguments) in functions.items()}
  fits = lambda name: name == ONE_GRADIENT or programs[name].temporary_mebibytes <= memory_limit * 1024
  ready: dict[str, Callable] = {name: program for name, program in programs.items() if fits(name)}
  others, versions, params = {}, {}, functions[ONE_GRADIENT][1][0]
  if with_peers:
    from benchmarks import peers

    inner = peers.Inner(setting["optimizer"], RATES[setting["network"], setting["optimizer"]], steps)
    others = peers.peers(setting["network"], params, episodes, inner, setting["threads"])
    versions = peers.versions()

  def in_double():
    found = _in_double(network, {name: MODES[name](optimizer, steps) for name in modes if name in EXACT}, episodes)
    if others:
      again = peers.peers(setting["network"], params, episodes, inner, setting["threads"], double=True)
      # TorchOpt's Adam corrects its bias in 32 bits whatever the parameters are.
      single = {"TorchOpt"} if inner.optimizer == "adam" else set()
      found |= {name: run() for name, run in again.items() if name not in single}
    return found

  ready |= others
  values = {name: tuple(map(float, run()[:2])) for name, run in ready.items()}
  agreed = _agree({name: value for name, value in values.items() if name in EXACT or name in others}, in_double)
  found = alternate(ready, rounds, seconds, CLOCKS[setting["clock"]])
  rounds_of = {name: [setting["tasks"] * rate for rate in some] for name, some in found.items()}
  speed = {name: statistics.median(some) for name, some in rounds_of.items()}
  records = []
  for name in [*programs, *others]:
    one = {**setting, "measure": name, "unit": "tasks/s", "value": None}
    if name in speed:
      one |= {"value": round(speed[name], 2), "rounds": [round(rate, 2) for rate in rounds_of[name]]}
      one |= {"loss": values[name][0], "gradient_norm": values[name][1]}
      one |= {"inner_gradients": round(speed[ONE_GRADIENT] / speed[name], 2)}
    else:
      one |= {"skipped": f"more than {memory_limit:g} GiB of temporary memory"}
    if name in programs:
      one |= _of_a_program(programs[name], functions[name], setting, speed.get(name))
    one["agreed_in"] = agreed
    if others and name in EXACT and name in speed:
      one["to_best_peer"] = round(speed[name] / max(speed[other] for other in others), 3)
    records.append(measured(**one, peers=versions))
    print(_line(one), flush=True)
  return records


def _of_a_program(program, function, setting, rate) -> dict:
  """What is known of a compiled way, beside how fast it is."""
  run, arguments = function
  operations = flops(run, *arguments, while_trips=CG_STEPS) / setting["tasks"] / 1e9
  known = {
    "temporary_mebibytes": round(program.temporary_mebibytes, 1),
    "compile_seconds": round(program.compile_seconds, 2),
    "gigaflops_a_task": round(operations, 4),
  }
  share = {} if rate is None else {"percent_of_peak": round(100 * operations * rate / setting["peak_gigaflops"], 1)}
  return known | share


def _line(one: dict) -> str:
  start = f"{one['network']:<11} {one['optimizer']:<4} K={one['inner_steps']:<3} {one['measure']:<20}"
  if one["value"] is None:
    return f"{start} {one['skipped']}, {one['temporary_mebibytes']:.0f} MiB"
  line = f"{start} {one['value']:8.2f} tasks/s {one['inner_gradients']:7.1f} inner gradients"
  if "temporary_mebibytes" in one:
    line += f" {one['temporary_mebibytes']:9.1f} MiB, compiled in {one['compile_seconds']:.1f} s,"
    line += f" {one['percent_of_peak']:.0f}% of the peak"
  return line + (f", {one['to_best_peer']:.2f} x the best peer" if "to_best_peer" in one else "")


def main(
  networks: tuple[Literal["conv4", "transformer"], ...] = ("conv4", "transformer"),
  optimizers: tuple[Literal["sgd", "adam"], ...] = ("sgd", "adam"),
  steps: tuple[int, ...] = (1, 5, 20),
  modes: tuple[Literal[tuple(MODES)], ...] = tuple(MODES),
  peers: bool = True,
  tasks: int = 8,
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  filters: int = 64,
  width: int = 128,
  remat_blocks: bool = False,
  seconds: float = 0.5,
  rounds: int = 3,
  clock: Literal["wall", "processor"] = "wall",
  peak_size: int = 1024,
  memory_limit: float = 16.0,
  quick: bool = False,
  record: bool = False,
):
  """Measures meta-gradients: tasks a second, memory, compile time and cost, beside PyTorch's libraries.

  Args:
    networks: conv4 as MAML has it, and a transformer of 4 blocks on 16 tokens.
    optimizers: of the inner loop.
    steps: numbers K of inner steps.
    modes: ways to differentiate the inner loop.
    peers: measure the peers, where they are installed.
    tasks: tasks a meta-gradient.
    ways: classes a task.
    shots: support pictures of each class.
    queries: query pictures of each class.
    filters: of conv4's layers.
    width: of the transformer's tokens.
    remat_blocks: compute the transformer's blocks again in the backward pass; the peers do not.
    seconds: how long a round of one way takes at least.
    rounds: how many rounds, alternating between the ways; the median counts.
    clock: what a second is. On a machine that others use, `taskset -c 0` with the processor's clock still compares what
      the ways cost on one core; with more threads it also counts those that wait.
    peak_size: of the matrices whose product measures the machine's peak.
    memory_limit: GiB of temporary memory above which a way is compiled but not run.
    quick: one small setting and one round, as a check.
    record: write the records to benchmarks/results, in place of those of the same settings.
  """
  if quick:
    optimizers, steps, seconds, rounds = ("sgd",), (2,), 0.05, 1
    tasks, queries, filters, width = 2, 3, 8, 32
  available = peers_available() if peers else False
  busy = round(os.getloadavg()[0], 2)  # the machine's, before anything is done here
  batch = pictures(ways=ways, shots=shots, queries=queries, tasks=tasks)
  peak = peak_gigaflops(peak_size, clock=CLOCKS[clock])
  device = jax.devices()[0].device_kind
  print(f"{device}, load {busy}: products of {peak_size} x {peak_size} matrices run at {peak:.0f} GFLOP/s")
  for network in networks:
    for optimizer in optimizers:
      for count in steps:
        setting = {
          "benchmark": "meta_gradient",
          "network": network,
          "optimizer": optimizer,
          "inner_steps": count,
          "tasks": tasks,
          "ways": ways,
          "shots": shots,
          "queries": queries,
          "size": width if network == "transformer" else filters,
          "remat_blocks": remat_blocks and network == "transformer",
          "device": device,
          "peak_gigaflops": round(peak),
          "load": busy,
          "clock": clock,
          "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        }
        made = network_of(network, ways=ways, filters=filters, width=width, remat_blocks=remat_blocks)
        found = measure(setting, made, batch, modes, available, rounds, seconds, memory_limit)
        if record:
          page.write("meta_gradient", found, of=SETTING)


def peers_available() -> bool:
  """Whether PyTorch is installed, and with it the peers may be; says so, if not."""
  try:
    import torch  # noqa: F401
  except ImportError:
    print("no peers: PyTorch is not installed; benchmarks/README.md says how to install them")
    return False
  return True


if __name__ == "__main__":
  tyro.cli(main)
