"""The seeds of a run, and their groups, which train in parallel in one folder."""

from collections.abc import Callable, Sequence

from metajax.experiment.types import Training
from metajax.train import for_seeds


def seeds_of(training: Training) -> range:
  """The seeds of a run."""
  return range(training.seed, training.seed + training.seeds)


def groups(training: Training, in_parallel: int) -> dict[str, list[int]]:
  """Returns `{subfolder of the run: seeds that train there in parallel}`."""
  seeds = list(seeds_of(training))
  if training.seeds == 1:
    return {"": seeds}
  parts = [seeds[i : i + in_parallel] for i in range(0, training.seeds, in_parallel)]
  return {f"seed-{part[0]}" if len(part) == 1 else f"seeds-{part[0]}-{part[-1]}": part for part in parts}


def side_by_side(batches: Sequence[Callable], seeds: Sequence[int]) -> tuple[Callable, int | tuple[int, ...]]:
  """The batches and the seed arguments of `fit`, for one seed or for several in parallel."""
  return (batches[0], seeds[0]) if len(seeds) == 1 else (for_seeds(batches), tuple(seeds))


def check_seeds(training: Training):
  """Refuses a first seed for which the last seed would exceed 32 bits.

  Raises:
    ValueError: with the first seed.
  """
  if training.seed > 2**32 - training.seeds:
    raise ValueError(f"expected --seed to be at most 2**32 - {training.seeds}, the --seeds, got {training.seed}")
