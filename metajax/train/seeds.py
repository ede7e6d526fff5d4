"""Training of several seeds side by side."""

import math
import os
from collections.abc import Sequence

import jax
import numpy as np
import optax

from metajax.mesh import shard_batch
from metajax.train._loop import Run, first_batch
from metajax.train.given import check_batches, check_seed
from metajax.types import Batches, Learner


def for_seeds(batches: Sequence[Batches]) -> Batches:
  """Stacks the batches of several seeds as `[rows, seeds, ...]`, for `fit(..., seed=(0, 1, ...))`.

  Args:
    batches: `batches(start, shard)` of each seed.

  Returns:
    A function `batches(start, shard)`.

  Raises:
    TypeError: if an element is not a function `batches(start, shard)`.
  """
  for one in batches:
    check_batches(one)

  def together(start=0, shard=(0, 1)):
    for each in zip(*(iter(one(start, shard)) for one in batches), strict=False):
      yield jax.tree.map(lambda *x: np.stack(x, axis=1), *each)

  return together


def seeds_in_parallel(
  learner: Learner, optimizer: optax.GradientTransformation, batches: Sequence[Batches], seeds: Sequence[int]
) -> int:
  """Returns the number of seeds to train side by side: the largest divisor of their number that fits in memory.

  Args:
    learner, optimizer: As for `fit`.
    batches: `batches(start, shard)` of each seed.
    seeds: The seeds.

  Raises:
    TypeError: as for `fit`.
    ValueError: if `batches` and `seeds` differ in length, or a seed is not in [0, 2^32).
  """
  if len(batches) != len(seeds):
    raise ValueError(f"expected batches for each of {len(seeds)} seeds, got batches for {len(batches)}")
  check_seed(seeds)
  for count in sorted({len(seeds) // n for n in range(1, len(seeds) + 1) if len(seeds) % n == 0}, reverse=True):
    if count == 1:
      break
    run = Run(learner, optimizer, tuple(seeds[:count]), None, None, None, False)
    own = for_seeds(batches[:count])
    stream = run.begin(*first_batch(own, math.inf), own, math.inf)
    if _bytes(run.train_step, run.train_state, shard_batch(next(stream))) < _bytes_free():
      return count
  return 1


def _bytes(step, *arguments) -> int:
  """Returns the bytes per device of a train step, including the copy of the best state."""
  memory = step.lower(*arguments).compile().memory_analysis()
  return memory.temp_size_in_bytes + memory.argument_size_in_bytes + 2 * memory.output_size_in_bytes


def _bytes_free() -> float:
  found = jax.local_devices()[0].memory_stats()
  if found:
    return found.get("bytes_limit", math.inf) - found.get("bytes_in_use", 0)
  pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
  return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") / jax.local_device_count()
