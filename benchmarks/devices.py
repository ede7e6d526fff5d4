"""The claim: work is divided over N devices, and a meta-gradient costs one all-reduce and no other collective.

    python -m benchmarks.devices --record     # writes benchmarks/results/devices.json

Devices are simulated and share the machine's cores, so that steps/s are no measure of speed.
"""

import json
import os
import statistics
import subprocess
import sys
from typing import Literal, get_args

import jax
import numpy as np
import optax

from benchmarks.command import SHOTS, WAYS, Tasks, Timing, run_main
from benchmarks.page import write
from benchmarks.step import alternate, compile_program
from metajax import Pair, gradient_steps, make_mesh
from metajax.augment.image import simclr_cifar
from metajax.compiled import read_program
from metajax.compose import linear, with_head
from metajax.experiment.records import stamped as measured
from metajax.learners import clip, maml, simclr
from metajax.mesh import shard_batch
from metajax.networks import conv4, projection_head, text_transformer
from metajax.networks.linen.transformer import Size
from metajax.train import make_train_step, start
from metajax.types import Batch, Learner

Gradient = Literal["mixed", "reverse", "first_order"]


def collectives(program: str) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
  """Returns (name, bytes) of the collectives in the text of a compiled program, outside and inside of loops."""
  found = ([], [])
  for one in read_program(program).collectives:
    found[one.times > 1].append((one.kind, one.size))
  return found


def contrastive(rows: int, filters: int) -> dict[str, tuple[Learner, Batch]]:
  """Returns `{name: (learner, batch)}` for SimCLR and CLIP on images of 32 pixels."""
  random, encoder = np.random.default_rng(0), conv4(filters, downsample="stride", pool="mean")
  images, tokens = random.random((rows, 32, 32, 3), np.float32), random.integers(1, 511, (rows, 16)).astype(np.int32)
  tokens[:, -1] = 511  # the end of the text
  towers = with_head(encoder, linear(64)), text_transformer(512, Size(64, 2, 1), 16, num_outputs=64)
  return {
    "simclr": (simclr(encoder, projection_head(128, 64), simclr_cifar()), images),
    "clip": (clip(*towers), Pair(images, tokens)),
  }


def measure(few_shot: Tasks, inner_steps: int, rows: int, timing: Timing) -> list[dict]:
  """Measures training steps on all devices of this process: MAML with each meta-gradient, SimCLR and CLIP."""
  batch, tasks, queries, filters = few_shot.batch(), *few_shot
  network = with_head(conv4(filters, downsample="stride", pool="mean"), linear(WAYS))
  programs, found = {}, {}
  with jax.set_mesh(make_mesh()):
    for gradient in get_args(Gradient):
      adapt = gradient_steps(optax.sgd(0.1), inner_steps, gradient=gradient)
      programs[gradient], found[gradient], (outside, inside) = _step(maml(network, adapt), batch)
      found[gradient] |= {"ways": WAYS, "shots": SHOTS, "tasks": tasks, "inner_steps": inner_steps, "queries": queries}
      if inside or [name for name, _ in outside] != ["all-reduce"] * (jax.device_count() > 1):
        raise AssertionError(f"expected one all-reduce, outside every loop, got {outside} outside and {inside} inside")
    for name, (learner, examples) in contrastive(rows, filters).items():
      programs[name], found[name], _ = _step(learner, examples)
      found[name] |= {"batch_size": rows}
    rates = alternate(programs, timing.rounds, timing.seconds)
  for name, some in rates.items():
    found[name]["value"] = round(statistics.median(some), 3)
  return [{"step": name, "devices": jax.device_count(), "filters": filters, **one} for name, one in found.items()]


def _step(learner, batch):
  """A training step compiled for the devices of this process, its record entries, and its collectives."""
  optimizer = optax.adam(1e-3)
  program = compile_program(make_train_step(learner, optimizer), start(learner, optimizer, batch), shard_batch(batch))
  outside, inside = collectives(program.compiled.as_text())
  metrics = program()[1]
  return (
    program,
    {
      "loss": float(metrics["loss"]),
      "gradient_norm": float(metrics["grad_norm"]),
      "temporary_mebibytes": round(program.temporary_mebibytes, 2),
      "compile_seconds": round(program.compile_seconds, 2),
      "collectives": len(outside) + len(inside),
      "collective_bytes": sum(size for _, size in outside + inside),
    },
    (outside, inside),
  )


def _elsewhere(devices: int, settings: dict) -> list[dict]:
  """Runs `measure` in a process with `devices` simulated devices."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
  flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
  command = [sys.executable, "-m", "benchmarks.devices", "--here", *flags]
  said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
  return json.loads(said.splitlines()[-1])


def main(
  devices: tuple[int, ...] = (1, 2, 4, 8),
  few_shot: Tasks = Tasks(),
  inner_steps: int = 5,
  rows: int = 64,
  timing: Timing = Timing(),
  here: bool = False,
):
  """Measures training steps on several numbers of simulated CPU devices: MAML (conv4, 5-way 1-shot), and SimCLR and
  CLIP (conv4, a small text tower).

  Args:
    devices: Numbers of devices, each measured in a separate process.
    few_shot: Tasks of a MAML step, over all devices, and the network.
    inner_steps: Inner-loop steps of MAML.
    rows: Images per step of SimCLR and CLIP, over all devices.
    timing: Timing rounds, which alternate between the learners.
    here: Measure on the real devices of this process, such as several GPUs, and print JSON.
  """
  if here:
    print(json.dumps(measure(few_shot, inner_steps, rows, timing)))
    return
  settings = {**few_shot._asdict(), "inner_steps": inner_steps, "rows": rows}
  settings |= {"seconds": timing.seconds, "rounds": timing.rounds}
  found = []
  for count in devices:
    for one in _elsewhere(count, settings):
      name = one.pop("step")
      print(
        f"{count} devices, {name:<11} {one['value']:7.3f} steps/s, {one['temporary_mebibytes']:.1f} MiB each, compiled "
        f"in {one['compile_seconds']:.1f} s, {one['collectives']} collectives of {one['collective_bytes']} bytes, "
        f"loss {one['loss']:.6f}",
        flush=True,
      )
      found.append(measured(benchmark="devices", measure=name, unit="steps/s", **one))
  for name in (*get_args(Gradient), "simclr", "clip"):
    for key, digits in (("loss", 1e-5), ("gradient_norm", 1e-4)):
      values = [one[key] for one in found if one["measure"] == name]
      if max(values) - min(values) > digits * abs(values[0]):
        raise AssertionError(f"expected the same {key} on any number of devices, got {values}")
  if timing.record:
    write("devices", found)


if __name__ == "__main__":
  run_main(main)
