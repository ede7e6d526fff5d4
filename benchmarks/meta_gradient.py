"""The claim: exact meta-gradients, mixed or in reverse, take less time and memory than in other libraries, at any K.

    python -m benchmarks.meta_gradient --record       # the full benchmark
    python -m benchmarks.meta_gradient --quick        # a check, 2 minutes

One network and optimizer at K = 1, 5 and 10, two modes and all peers: 5 minutes on 2 shared CPU cores. The benchmark
measures tasks per second, compile time, temporary memory, and cost in inner gradients of each mode of differentiating
an inner loop, and of PyTorch libraries if the `bench` extra is installed. Before the timing all exact modes and peers
must agree on the loss to 5 digits and on the gradient norm to 3, in float32 or, if rounding decides, in float64 on two
tasks.
"""

import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np
import optax

from benchmarks import page
from benchmarks.arithmetic import peak_gigaflops
from benchmarks.command import Timing, run_main
from benchmarks.differentiation import (
  CG_STEPS,
  EXACT,
  MODES,
  RATES,
  images,
  inner_gradient,
  meta_gradient,
  network_of,
  optimizer_of,
)
from benchmarks.step import alternate, compile_program
from metajax import gradient_steps
from metajax.compiled import flops
from metajax.experiment.records import stamped as measured
from metajax.mesh import devices_for, make_mesh, split_cpu, without_mesh
from metajax.types import Episode, Network

ONE_GRADIENT = "one inner gradient"
# A new record replaces an old one with equal entries.
SETTING = ("network", "optimizer", "inner_steps", "measure", "device", "size", "clock")
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class Task(NamedTuple):
  """Few-shot tasks of characters."""

  tasks: int = 8
  """Tasks per meta-gradient."""
  ways: int = 5
  """Classes per task."""
  shots: int = 1
  """Support images per class."""
  queries: int = 15
  """Query images per class."""


class Size(NamedTuple):
  """Size of the networks."""

  filters: int = 64
  """Channels of each convolution layer of conv4."""
  width: int = 128
  """Width of the transformer, in values per token."""
  remat_blocks: bool = False
  """Recompute the transformer's blocks in the backward pass, unlike the peers."""

  def of(self, network: str) -> dict:
    """Entries on the size of a network in the records."""
    if network == "transformer":
      return {"size": self.width, "remat_blocks": self.remat_blocks}
    return {"size": self.filters, "remat_blocks": False}


def check_agreement(found: dict[str, tuple[float, float]]):
  """Checks that all losses agree to 5 digits and all gradient norms to 3.

  Raises:
    AssertionError: with all losses and norms.
  """
  losses, norms = np.array(list(found.values())).reshape(-1, 2).T
  spread = lambda x: np.ptp(x) / np.abs(x).max()
  if found and not (spread(losses) < 1e-5 and spread(norms) < 1e-3):
    raise AssertionError(f"expected all losses to agree to 5 digits and gradient norms to 3, got {found}")


def _agree(found: dict, in_double: Callable[[], dict]) -> str:
  """Checks agreement in float32, or in float64 if a rounding moves an activation across the kink of a ReLU."""
  try:
    check_agreement(found)
    return "float32"
  except AssertionError as error:
    print(f"checking agreement in float64, since in float32: {error}")
    check_agreement(in_double())
    return "float64"


def _in_double(network: Network, adapts: dict[str, Callable], episodes) -> dict[str, tuple[float, float]]:
  """Computes (loss, gradient norm) of each mode from the same parameters in 64 bits."""
  with without_mesh(), jax.enable_x64(False):
    given = meta_gradient(network, gradient_steps(optax.sgd(0.1), 1), episodes)[1]
  with without_mesh(), jax.enable_x64(True):
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), given)
    found = {name: jax.jit(meta_gradient(network, adapt, episodes)[0])(*wide)[:2] for name, adapt in adapts.items()}
    return {name: (float(loss), float(norm)) for name, (loss, norm) in found.items()}


def measure(
  setting: dict,
  network: Network,
  episodes: Episode,
  modes: Sequence[str],
  with_peers: bool,
  rounds: int,
  seconds: float,
  memory_limit: float,
) -> list[dict]:
  """The records of one network, optimizer and number of steps; a mode above the memory limit is not run."""
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
    few = jax.tree.map(lambda x: x[:2], episodes)  # two tasks show a difference as well as all, in less than a minute
    found = _in_double(network, {name: MODES[name](optimizer, steps) for name in modes if name in EXACT}, few)
    if others:
      again = peers.peers(setting["network"], params, few, inner, setting["threads"], double=True)
      # TorchOpt's Adam always computes its bias correction in 32 bits.
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
  """Record entries of a compiled mode, apart from its speed."""
  run, arguments = function
  with without_mesh():
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
  task: Task = Task(),
  size: Size = Size(),
  timing: Timing = Timing(seconds=0.5),
  clock: Literal["wall", "processor"] = "wall",
  devices: int | None = None,
  peak_size: int = 1024,
  memory_limit: float = 16.0,
  quick: bool = False,
):
  """Measures meta-gradients: tasks per second, memory, compile time and cost, and compares with PyTorch libraries.

  New records replace old ones of the same settings.

  Args:
    networks: Networks: conv4 as in MAML, and a transformer of 4 blocks on 16 tokens.
    optimizers: Optimizers of the inner loop.
    steps: Numbers K of inner steps.
    modes: Modes of differentiating the inner loop.
    peers: Also measure the installed peers.
    task: Few-shot tasks.
    size: Size of the networks.
    timing: Timing rounds, which alternate between the modes.
    clock: Clock of the timing: wall time or processor time. On a shared machine `taskset -c 0` with processor time
      compares the cost on one core; with more threads, processor time includes waiting threads.
    devices: XLA devices that share the tasks; by default one a core, as many as divide the tasks.
    peak_size: Side of the matrices whose product measures the peak rate of the machine.
    memory_limit: Maximum temporary memory of a mode, in GiB; above it, the mode is compiled but not run.
    quick: Run a quick check with one small setting and one round.
  """
  if quick:
    optimizers, steps, timing = ("sgd",), (2,), timing._replace(seconds=0.05, rounds=1)
    task, size = task._replace(tasks=2, queries=3), size._replace(filters=8, width=32)
  split_cpu(devices)
  available = peers_available() if peers else False
  machine = _machine(clock, peak_size)
  batch, count = images(**task._asdict()), devices_for(task.tasks, devices)
  for network, optimizer, inner_steps in itertools.product(networks, optimizers, steps):
    setting = {"benchmark": "meta_gradient", "network": network, "optimizer": optimizer, "inner_steps": inner_steps}
    setting |= {**task._asdict(), **size.of(network), **machine, "devices": count}
    made = network_of(network, ways=task.ways, **size._asdict())
    with jax.set_mesh(make_mesh(count)):
      found = measure(setting, made, batch, modes, available, timing.rounds, timing.seconds, memory_limit)
    if timing.record:
      page.write("meta_gradient", found, of=SETTING)


def _machine(clock: str, peak_size: int) -> dict:
  """Entries on the machine in the records."""
  busy = round(os.getloadavg()[0], 2)  # load of the machine before the benchmark
  peak, device = peak_gigaflops(peak_size, clock=CLOCKS[clock]), jax.devices()[0].device_kind
  print(f"{device}, load {busy}: products of {peak_size} x {peak_size} matrices run at {peak:.0f} GFLOP/s")
  threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  return {"device": device, "peak_gigaflops": round(peak), "load": busy, "clock": clock, "threads": threads}


def peers_available() -> bool:
  """Returns True if PyTorch is installed, which the peers need; prints a remark otherwise."""
  try:
    import torch  # noqa: F401
  except ImportError:
    print("no peers: PyTorch is not installed; benchmarks/README.md describes the installation")
    return False
  return True


if __name__ == "__main__":
  run_main(main)
