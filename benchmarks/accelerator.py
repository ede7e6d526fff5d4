"""What is open about one GPU, in one command of at most nine minutes.

    python -m benchmarks.accelerator --record     # writes benchmarks/results/accelerator.json, after each row
    python -m benchmarks.accelerator --tiny       # the same rows at sizes for any machine

Four parts. Meta-gradients of MAML on conv4-64 by convolution, tasks at once and precision, beside `torch.func` and
TorchOpt; contrastive losses by rows, dense and tiled, beside open_clip and lightly; one training step of SimCLR
ResNet-50 and of CLIP ViT-B/32 by precision; images from host to device as uint8 and as float32. Rows that no longer fit
into the time are named. Missing peers are left out.
"""

import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax

from benchmarks import accelerator_parts as parts
from benchmarks import page
from benchmarks.command import run_main
from benchmarks.meta_gradient import peers_available
from metajax.experiment.records import stamped as measured

Part = Literal["maml", "contrastive", "steps", "transfers"]
SETTING = ("part", "measure", "machine", "tiny")  # a new record replaces an old one with equal entries


class Run(NamedTuple):
  """What a run of the benchmark is given."""

  end: float
  """When the time is up, by `time.monotonic`."""
  record: bool
  tiny: bool
  seconds: float


def jobs(part: Part, sizes: parts.Sizes, with_peers: bool) -> Iterator[tuple[str, Callable]]:
  """The rows of a part, each as its name and a function of seconds that measures it."""
  if part == "maml":
    yield from parts.maml_jobs(sizes, with_peers)
  elif part == "contrastive":
    yield from parts.contrastive_jobs(sizes, with_peers)
  elif part == "steps":
    yield from parts.step_jobs(sizes)
  else:
    yield from parts.transfer_jobs(sizes)


def measure(part: Part, name: str, job: Callable, run: Run) -> dict | None:
  """Measures and writes one row; None if there is no time left for it."""
  if time.monotonic() > run.end:
    print(f"{part}: {name}: no time left", flush=True)
    return None
  try:
    found = job(run.seconds)
  except (RuntimeError, MemoryError) as error:  # of XLA and of PyTorch, mostly for want of memory
    found = {"value": None, "unit": "", "skipped": str(error).partition("\n")[0][:200]}
  one = measured(benchmark="accelerator", part=part, measure=name, tiny=run.tiny, **found)
  shown = one.get("skipped") or f"{one['value']:,} {one['unit']}"
  print(f"{part}: {name}: {shown}", flush=True)
  if run.record:
    page.write("accelerator", [one], of=SETTING)
  return one


def main(
  run_parts: tuple[Part, ...] = ("maml", "contrastive", "steps", "transfers"),
  peers: bool = True,
  seconds: float = 0.5,
  minutes: float = 9.0,
  record: bool = False,
  tiny: bool = False,
):
  """Measures meta-gradients, contrastive losses, training steps and transfers on one accelerator.

  Args:
    run_parts: Parts to measure, in this order; each may use an equal share of the time that is left.
    peers: Also measure the installed peers.
    seconds: Minimum duration of the timing of a row, in seconds.
    minutes: Time for all; no row is begun after it.
    record: Write each row to benchmarks/results as soon as it is measured.
    tiny: Run at tiny sizes, to check the benchmark on any machine.
  """
  sizes, end = parts.TINY if tiny else parts.FULL, time.monotonic() + 60 * minutes
  with_peers = peers and peers_available()
  print(f"{jax.device_count()} x {jax.devices()[0].device_kind}", flush=True)
  for i, part in enumerate(run_parts):
    left = end - time.monotonic()
    run = Run(time.monotonic() + left / (len(run_parts) - i), record, tiny, seconds)
    for name, job in jobs(part, sizes, with_peers):
      measure(part, name, job, run)


if __name__ == "__main__":
  run_main(main)
