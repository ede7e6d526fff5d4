"""The claim: contrastive losses take memory linear in the batch size, and less time than other libraries.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m benchmarks.contrastive_loss --record
    python -m benchmarks.contrastive_loss --quick        # a check, without the other devices

Milliseconds and temporary memory of value and gradient against the number of rows, for each implementation: dense and
tiled on one device, sharded and ring on all devices. Peers are optax and, if the `bench` extra is installed, lightly's
NTXentLoss and open_clip's ClipLoss. All get the same rows in one run, and must agree on the loss to 5 digits before
they are timed. An implementation above the memory limit is skipped for all larger batches.
"""

import os
import statistics
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import page
from benchmarks.command import Timing, run_main
from benchmarks.meta_gradient import peers_available
from benchmarks.step import Program, alternate, compile_program
from metajax.compiled import flops
from metajax.experiment.records import stamped as measured
from metajax.losses import info_nce, nt_xent
from metajax.mesh import make_mesh, shard_batch
from metajax.types import Array

Loss = Literal["info_nce", "nt_xent"]
SCALE, TEMPERATURE = 20.0, 0.1
ON_ONE, ON_ALL = ("dense", "tiled"), ("sharded", "ring")
SETTING = ("loss", "rows", "width", "measure", "machine")  # a new record replaces an old one with equal entries


def towers(loss: Loss, rows: int, width: int) -> tuple[np.ndarray, ...]:
  """Random rows in correlated pairs: two towers for info_nce, one array of adjacent pairs for nt_xent."""
  random = np.random.default_rng(0)
  common = random.normal(size=(rows if loss == "info_nce" else rows // 2, 1, width))
  views = (common + random.normal(size=(len(common), 2, width))).astype(np.float32)
  return (views[:, 0], views[:, 1]) if loss == "info_nce" else (views.reshape(rows, width),)


def of_ours(loss: Loss, how: str) -> Callable:
  """The value and gradient of a metajax loss in the given implementation."""
  if loss == "info_nce":
    return jax.value_and_grad(lambda first, second: info_nce(first, second, SCALE, implementation=how), (0, 1))
  return jax.value_and_grad(lambda rows: nt_xent(rows, TEMPERATURE, implementation=how), (0,))


def of_optax(rows: Array) -> tuple:
  """The value and gradient of optax's NT-Xent, which broadcasts to `[rows, rows, width]`."""

  def loss(rows):
    unit = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    return optax.losses.ntxent(unit, jnp.arange(len(rows)) // 2, TEMPERATURE)

  return jax.value_and_grad(loss, (0,))(rows)


def programs(loss: Loss, arguments: tuple[np.ndarray, ...], devices: int, with_optax: bool) -> dict[str, Program]:
  """All compiled implementations that the devices of this machine allow."""
  found = {how: compile_program(of_ours(loss, how), *arguments) for how in ON_ONE}
  if devices > 1:
    with jax.set_mesh(make_mesh(devices)):
      spread = shard_batch(arguments)
      found |= {how: compile_program(of_ours(loss, how), *spread) for how in ON_ALL}
  if loss == "nt_xent" and with_optax:
    found["optax"] = compile_program(of_optax, *arguments)
  return found


def check_agreement(values: dict[str, float]):
  """Checks that all losses agree to 5 digits.

  Raises:
    AssertionError: with all losses.
  """
  found = np.array(list(values.values()))
  if not np.ptp(found) < 1e-5 * np.abs(found).max():
    raise AssertionError(f"expected all losses to agree to 5 digits, got {values}")


def main(
  losses: tuple[Loss, ...] = ("info_nce", "nt_xent"),
  rows: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384, 32768),
  width: int = 128,
  peers: bool = True,
  timing: Timing = Timing(rounds=5),
  memory_limit: float = 6.0,
  quick: bool = False,
):
  """Measures value and gradient of contrastive losses: time and memory against the number of rows.

  New records replace old ones of the same settings.

  Args:
    losses: Losses to measure: info_nce on as many pairs as rows, nt_xent on half as many images.
    rows: Numbers of rows of a tower.
    width: Values per row.
    peers: Also measure the installed peers.
    timing: Timing rounds, which alternate between the implementations.
    memory_limit: Maximum temporary memory of an implementation, in GiB; above it, it is skipped.
    quick: Run a quick check with one small batch and one round.
  """
  if quick:
    rows, timing = (256,), timing._replace(seconds=0.01, rounds=1)
  peers = peers and peers_available()
  busy = round(os.getloadavg()[0], 2)  # load of the machine before the benchmark
  for loss in losses:
    out = set()  # implementations that exceeded the memory limit on a smaller batch
    for count in rows:
      setting = {
        "benchmark": "contrastive_loss",
        "loss": loss,
        "rows": count,
        "width": width,
        "unit": "ms",
        "load": busy,
      }
      found = _measure(setting, peers, timing, memory_limit * 1024, out)
      if timing.record:
        page.write("contrastive_loss", found, of=SETTING)


def _measure(setting, with_peers, timing, memory_limit, out) -> list[dict]:
  loss, count, width = setting["loss"], setting["rows"], setting["width"]
  arguments, devices = towers(loss, count, width), jax.device_count()
  ready = programs(loss, arguments, devices, with_optax="optax" not in out)
  memory = {name: program.temporary_mebibytes for name, program in ready.items()}
  versions = {}
  if with_peers:
    from benchmarks import contrastive_peers

    versions = contrastive_peers.versions()
    others = contrastive_peers.peers(loss, arguments, SCALE, TEMPERATURE, threads=len(os.sched_getaffinity(0)))
    for name, run in others.items():
      # Memory grows with the square of the rows, so that half the rows predict the memory of all.
      if name not in out:
        ready[name], memory[name] = run, contrastive_peers.peak_mebibytes(run)
        if 4 * memory[name] > memory_limit:
          out.add(name)
  skipped = {name for name in ready if memory[name] > memory_limit and isinstance(ready[name], Program)}
  out |= skipped
  running = {name: run for name, run in ready.items() if name not in skipped}
  values = {name: float(run()[0]) for name, run in running.items()}
  check_agreement(values)
  rates = alternate(running, timing.rounds, timing.seconds)
  milliseconds = {name: statistics.median(1e3 / rate for rate in some) for name, some in rates.items()}
  records = []
  for name in ready:
    one = {**setting, "measure": name, "devices": devices if name in ON_ALL else 1, "value": None}
    one["temporary_mebibytes"] = round(memory[name], 1)
    if name in milliseconds:
      one |= {"value": round(milliseconds[name], 1), "loss_value": values[name]}
      one["rounds"] = [round(1e3 / rate, 1) for rate in rates[name]]
    else:
      one["skipped"] = f"more than {memory_limit / 1024:g} GiB of temporary memory"
    if name in ON_ONE:
      one["products"] = round(flops(of_ours(loss, name), *arguments) / (count**2 * width), 2)
    records.append(measured(**one, peers=versions))
    print(_line(one), flush=True)
  return records


def _line(one: dict) -> str:
  time = one.get("skipped") or f"{one['value']:10.1f} ms"
  return f"{one['loss']:<9} {one['rows']:>6} rows  {one['measure']:<10} {time} {one['temporary_mebibytes']:10.1f} MiB"


if __name__ == "__main__":
  run_main(main)
