"""The claim: a step of a published CLIP runs on a laptop, and chunked towers keep memory constant in the batch size.

    python -m benchmarks.clip_step --record     # writes benchmarks/results/clip_step.json

Several minutes on 2 CPU cores, 6 GiB of memory.
"""

import statistics
import time

import jax
import numpy as np
import tyro

from benchmarks.page import write
from benchmarks.step import compile_program
from metajax import Pair
from metajax.compose import chunked
from metajax.experiment.records import stamped as measured
from metajax.learners import clip
from metajax.networks import clip_towers
from metajax.networks.linen.clip_towers import PUBLISHED


def main(
  towers: str = "ViT-B/32",
  batch_sizes: tuple[int, ...] = (8, 16),
  chunk: int = 4,
  rounds: int = 3,
  record: bool = False,
):
  """Measures the time and memory of value and gradient of the CLIP loss, with full and with chunked towers.

  Args:
    towers: Name of a published CLIP size.
    batch_sizes: Batch sizes, in pairs.
    chunk: Rows per chunk of the chunked towers.
    rounds: Number of timed runs; the median is reported.
    record: Write the records to benchmarks/results.
  """
  sizes, found = PUBLISHED[towers], []
  whole = clip_towers(towers)
  learners = {"whole": clip(*whole), f"in chunks of {chunk}": clip(*(chunked(tower, chunk) for tower in whole))}
  random = np.random.default_rng(0)
  for rows in batch_sizes:
    tokens = random.integers(0, sizes.vocab_size - 1, (rows, sizes.max_length)).astype(np.int32)
    tokens[:, -1] = sizes.vocab_size - 1
    batch = Pair(random.random((rows, sizes.pixels, sizes.pixels, 3)).astype(np.float32), tokens)
    params, state = learners["whole"].init(jax.random.key(0), batch)
    losses = {}
    for name, learner in learners.items():
      run = compile_program(jax.value_and_grad(learner.loss, has_aux=True), params, state, batch, jax.random.key(1))
      memory, seconds = run.temporary_mebibytes, []
      for _ in range(rounds):
        began = time.perf_counter()
        (loss, _), _ = run()
        seconds.append(time.perf_counter() - began)
      losses[name], took = float(loss), statistics.median(seconds)
      print(f"{towers}, {rows} pairs, {name}: {took:.2f} s, {memory:,.0f} MiB of temporary memory, loss {loss:.5f}")
      said = {"measure": name, "towers": towers, "batch_size": rows, "value": round(took, 3), "unit": "s"}
      found.append(measured(benchmark="clip_step", **said, temporary_mebibytes=round(memory)))
    if np.ptp(list(losses.values())) > 1e-4:
      raise AssertionError(f"expected the same loss with full and chunked towers, got {losses}")
  if record:
    write("clip_step", found)


if __name__ == "__main__":
  tyro.cli(main)
