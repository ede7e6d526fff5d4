"""The claim: a run that is stopped and killed at random, on several hosts, ends as an undisturbed one.

    python -m benchmarks.soak --record     # writes benchmarks/results/soak.json

Several processes on this machine train MAML on sine waves together. At random times one of them gets SIGTERM, which
saves the run, or kill -9, which ends all of them; then the run is resumed. At the end the parameters are compared with
those of an undisturbed run, and the metrics are read for steps that are missing or twice there. About twenty minutes.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import orbax.checkpoint as ocp

from benchmarks.command import run_main
from benchmarks.page import write
from metajax.experiment.records import stamped as measured

FLAGS = ("--tasks", "4", "--hidden", "8", "--test-tasks", "25")
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


class Storm(NamedTuple):
  """What happened to a run: signals by name, and steps that were taken again."""

  signals: dict[str, int]
  repeated: int


def _start(hosts: int, folder: Path, more: Sequence[str]) -> subprocess.Popen:
  command = [sys.executable, "-m", "experiments.launch_local", str(hosts), "experiments.sinusoid", *more]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  log = (folder.parent / f"{folder.name}.log").open("a")
  return subprocess.Popen([*command, "--folder", str(folder)], env=environment, stdout=log, stderr=log)


def _steps(folder: Path) -> list[int]:
  """The steps of the metrics, in their order."""
  path = folder / "maml" / "metrics.jsonl"
  return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def _last(folder: Path) -> int:
  saved = [int(path.name) for path in (folder / "maml" / "checkpoints").glob("[0-9]*") if path.name.isdecimal()]
  return max(saved, default=0)


def weathered(hosts: int, folder: Path, steps: int, interruptions: int, random: np.random.Generator) -> Storm:
  """Trains while it interrupts; returns what happened."""
  more = ["--steps", str(steps), "--checkpoint-every", str(max(1, steps // 80)), *FLAGS]
  counts, repeated = dict.fromkeys((one.name for one in SIGNALS), 0), 0
  # Each interruption waits for so many further steps.
  waits = random.multinomial(steps * 9 // 10, [1 / interruptions] * interruptions)
  for wait in waits.tolist():
    process, target = _start(hosts, folder, more), _last(folder) + wait
    while process.poll() is None and _last(folder) < target:
      time.sleep(0.05)
    if process.poll() is not None:
      break
    one = SIGNALS[int(random.integers(2))]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if not children:
      break
    os.kill(int(children[int(random.integers(len(children)))]), one)
    counts[one.name] += 1
    process.wait(timeout=300)
    seen, kept = max(_steps(folder), default=0), _last(folder)
    repeated += max(0, seen - kept)
    more = ["--resume"]
  for _ in range(3):  # a kill may come while the last steps are saved
    if _start(hosts, folder, more).wait(timeout=1800) == 0:
      return Storm(counts, repeated)
    more = ["--resume"]
  raise AssertionError(f"expected the run to end, see {folder}.log")


def _arrays(folder: Path, step: int) -> Any:
  """The arrays of a checkpoint, each on one device."""
  path = folder / "maml" / "checkpoints" / str(step) / "arrays"
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  stored = cast(Any, ocp.StandardCheckpointer().metadata(path)).item_metadata.tree
  target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), stored)
  return ocp.StandardCheckpointer().restore(path, target)


def main(steps: int = 2000, hosts: int = 4, interruptions: int = 12, seed: int = 0, record: bool = False):
  """Trains with and without interruptions, and compares the ends.

  Args:
    steps: Training steps.
    hosts: Processes that train together.
    interruptions: Number of signals.
    seed: Seed of their times and kinds.
    record: Write the record to benchmarks/results.
  """
  with tempfile.TemporaryDirectory() as home:
    calm, stormy = Path(home) / "calm", Path(home) / "stormy"
    began = time.perf_counter()
    status = _start(hosts, calm, ["--steps", str(steps), *FLAGS]).wait(timeout=3600)
    if status:
      raise AssertionError(f"expected the undisturbed run to end: {(Path(home) / 'calm.log').read_text()[-500:]}")
    undisturbed, began = time.perf_counter() - began, time.perf_counter()
    storm = weathered(hosts, stormy, steps, interruptions, np.random.default_rng(seed))
    seconds = time.perf_counter() - began
    pairs = zip(jax.tree.leaves(_arrays(stormy, steps)), jax.tree.leaves(_arrays(calm, steps)), strict=True)
    apart = max(float(np.abs(np.asarray(x, float) - np.asarray(y, float)).max()) for x, y in pairs)
    rows, all_rows = _steps(stormy), _steps(calm)
    resumed = len(re.findall(r"^resuming after step", (Path(home) / "stormy.log").read_text(), re.MULTILINE))
  missing, twice = len(set(all_rows) - set(rows)), len(rows) - len(set(rows))
  print(
    f"{steps} steps on {hosts} hosts: {storm.signals}, {resumed} lines of resuming; at least {storm.repeated} steps "
    f"taken again; params differ by {apart:.2g}; {missing} rows of metrics missing, {twice} twice; {seconds:.0f} s, "
    f"undisturbed {undisturbed:.0f} s"
  )
  if apart > 1e-5 or missing or twice:
    raise AssertionError("expected the interrupted run to end as the undisturbed one")
  if record:
    about = {"hosts": hosts, "steps": steps, "seed": seed, **storm.signals, "repeated_steps": storm.repeated}
    about |= {"missing_rows": missing, "seconds": round(seconds), "undisturbed_seconds": round(undisturbed)}
    write("soak", [measured(benchmark="soak", measure="largest difference", value=apart, unit="", **about)])


if __name__ == "__main__":
  run_main(main)
