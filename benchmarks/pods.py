"""Scaling of training steps to pods: arithmetic and communication per chip, read from programs compiled for real pods.

    pip install libtpu     # the release that `pip install jax[tpu]` selects; no TPU chips needed
    python -m benchmarks.pods --record     # writes benchmarks/results/pods.json

XLA's compiler for TPUs runs on any machine. The training step is compiled for TPU v5e slices of several sizes. Memory,
arithmetic and collectives are read from the program, and time is projected from the chip's published peak rates. No
step is run: times are projections, bytes and arithmetic are exact. Half an hour on 2 CPU cores.
"""

import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.devices import collectives
from benchmarks.page import write
from metajax import Episode, Examples, Pair, gradient_steps
from metajax.augment.image import simclr as simclr_view
from metajax.compiled import flops
from metajax.compose import linear, with_head
from metajax.experiment.records import stamped as measured
from metajax.learners import clip, maml, simclr
from metajax.mesh.devices import DATA, FSDP, parameter_spec
from metajax.networks import clip_towers, conv4, projection_head, resnet
from metajax.train import TrainState, adamw, lars, make_train_step
from metajax.types import Learner

Name = Literal["maml", "simclr", "clip"]
# Published values of a TPU v5e chip: bfloat16 FLOP/s, bytes/s between chips (400 Gb/s on each of 4 links), memory.
PEAK, BETWEEN_CHIPS, MEMORY = 197e12, 200e9, 16 * 2**30
UTILISATION = 0.4  # fraction of the peak that a step reaches


class Training(NamedTuple):
  """A learner at the size of its paper, its optimizer, and the shapes of one chip's share of a batch."""

  learner: Learner
  optimizer: optax.GradientTransformation
  share: object


def training(name: Name) -> Training:
  """MAML on conv4-64 (5-way 1-shot, 5 steps), SimCLR on ResNet-50, or CLIP ViT-B/32; the last two in bfloat16."""
  of = jax.ShapeDtypeStruct
  if name == "maml":
    some = lambda n: Examples(of((4, n, 28, 28, 1), jnp.float32), of((4, n, 5), jnp.float32))
    # What "auto" is on a TPU; here the compiler is asked on a machine without one.
    network = with_head(conv4(64, downsample="stride", pool="mean", convolution="native"), linear(5))
    learner = maml(network, gradient_steps(optax.sgd(0.4), 5), chunk_size=4)
    return Training(learner, optax.adam(1e-3), Episode(some(5), some(75)))
  if name == "simclr":
    learner = simclr(resnet(50, convolution="native", dtype=jnp.bfloat16), projection_head(2048, 128), simclr_view())
    return Training(learner, lars(0.3), of((64, 224, 224, 3), jnp.float32))
  learner = clip(*clip_towers("ViT-B/32", dtype=jnp.bfloat16))
  return Training(learner, adamw(5e-4), Pair(of((128, 224, 224, 3), jnp.float32), of((128, 77), jnp.int32)))


def topology(name: str) -> Sequence[jax.Device]:
  """The devices of a remote slice, such as v5e:4x4."""
  from jax.experimental import topologies

  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no metadata server
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip to lock
  for variable, value in (("ACCELERATOR_TYPE", "v5litepod-8"), ("WORKER_HOSTNAMES", "localhost"), ("WORKER_ID", "0")):
    os.environ.setdefault(f"TPU_{variable}", value)
  return topologies.get_topology_desc(platform="tpu", topology_name=name).devices


def shapes(made: Training, chips: int) -> tuple[TrainState, object]:
  """Shapes of a TrainState and of the batch of `chips` chips."""
  rows = lambda total: lambda x: jax.ShapeDtypeStruct((total(x.shape[0]), *x.shape[1:]), x.dtype)
  batch, few = (jax.tree.map(rows(total), made.share) for total in (lambda n: n * chips, lambda n: 4))

  def begin(key, batch):
    params, state = made.learner.init(key, batch)
    return TrainState(params, state, made.optimizer.init(params), key, jnp.zeros((), jnp.int32))

  return jax.eval_shape(begin, jax.random.key(0), few), batch


def compiled_step(made: Training, devices: Sequence[jax.Device], fsdp: bool) -> jax.stages.Compiled:
  """The training step on the batch of all chips, compiled for them."""
  count, names = len(devices), (DATA, FSDP) if fsdp else (DATA,)
  shape = (count, 1) if fsdp else (count,)
  mesh = Mesh(np.array(devices).reshape(shape), names, axis_types=(AxisType.Auto,) * len(names))
  before, batch = shapes(made, count)
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    put = lambda spec: lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec(x.shape)))
    spread = lambda name: parameter_spec if name in ("params", "optimizer_state") else lambda shape: P()
    before = TrainState(*(jax.tree.map(put(spread(name)), part) for name, part in before._asdict().items()))
    batch = jax.tree.map(put(lambda shape: P(DATA)), batch)
    return jax.jit(make_train_step(made.learner, made.optimizer), donate_argnums=0).lower(before, batch).compile()


def products(made: Training, chips: int) -> int:
  """Operations of a step in matrix products, over all chips; unlike XLA's count, over all iterations of a loop."""
  before, batch = shapes(made, chips)
  return flops(make_train_step(made.learner, made.optimizer), before, batch)


def sent(found: Counter, chips: int) -> float:
  """Bytes that a chip sends for ring collectives, given the bytes of their results by kind."""
  around = (chips - 1) / chips
  times = {"all-reduce": 2 * around, "all-gather": around, "reduce-scatter": chips - 1, "all-to-all": around}
  return sum(size * times.get(kind, 1) for kind, size in found.items())


def projected(made: Training, devices: Sequence[jax.Device], fsdp: bool) -> dict:
  """Record entries of a step on the given chips."""
  began, chips = time.perf_counter(), len(devices)
  compiled = compiled_step(made, devices, fsdp)
  seconds, memory, bytes_of = time.perf_counter() - began, compiled.memory_analysis(), Counter()
  # A loop with a collective iterates over the ring of chips: products overlap with the gathering of their factors.
  for times, part in zip((1, chips - 1), collectives(compiled.as_text()), strict=True):
    for kind, size in part:
      bytes_of[kind] += times * size
  operations, out = products(made, chips) / chips, sent(bytes_of, chips)
  computing, sending = operations / (PEAK * UTILISATION), out / BETWEEN_CHIPS
  return {
    "devices": chips,
    "batch_size": jax.tree.leaves(made.share)[0].shape[0] * chips,
    "fsdp": fsdp,
    "gigaflops": round(operations / 1e9, 1),
    "state_mebibytes": round(memory.argument_size_in_bytes / 2**20, 1),
    "temporary_mebibytes": round(memory.temp_size_in_bytes / 2**20, 1),
    "fits": memory.argument_size_in_bytes + memory.temp_size_in_bytes <= MEMORY,
    "collective_bytes": int(out),
    "bytes_of": dict(bytes_of),
    "computing_ms": round(1e3 * computing, 3),
    "sending_ms": round(1e3 * sending, 3),
    "value": round(1e3 * (computing + sending), 3),
    "compile_seconds": round(seconds, 1),
  }


def main(
  learners: tuple[Name, ...] = ("maml", "simclr", "clip"),
  slices: tuple[str, ...] = ("v5e:2x4", "v5e:16x16"),
  fsdp: tuple[bool, ...] = (False, True),
  record: bool = False,
):
  """Compiles training steps for TPU slices, and projects their scaling.

  Args:
    learners: Learners to train.
    slices: Topologies of TPU v5e slices, such as v5e:2x4.
    fsdp: Parameter layouts: replicated on each chip (False), sharded over the chips (True), or both.
    record: Write the records to benchmarks/results.
  """
  found = []
  for name in learners:
    made = training(name)
    for where in slices:
      devices = topology(where)
      for sharded in fsdp:
        one = projected(made, devices, sharded)
        print(
          f"{name}{', fsdp' * sharded}, {len(devices)} chips, batch {one['batch_size']:,}: {one['gigaflops']:,} GFLOP "
          f"and {one['collective_bytes'] / 1e6:,.1f} MB sent per chip, {one['computing_ms']} + {one['sending_ms']} ms, "
          f"{one['state_mebibytes']:,} + {one['temporary_mebibytes']:,} MiB",
          flush=True,
        )
        found.append(measured(benchmark="pods", measure=name, unit="ms, projected", topology=where, **one))
        if record:
          write("pods", found, of=("measure", "topology", "fsdp"))


if __name__ == "__main__":
  tyro.cli(main)
