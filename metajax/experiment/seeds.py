"""The seeds of a run: which there are, and which of them train side by side in which folder."""

from collections.abc import Callable, Sequence

from metajax.experiment.types import Training
from metajax.train import for_seeds


def seeds_of(training: Training) -> range:
  """The seeds that a run trains."""
  return range(training.seed, training.seed + training.seeds)


def groups(training: Training, in_parallel: int) -> dict[str, list[int]]:
  """`{folder within the run's: the seeds that train there side by side}`."""
  seeds = list(seeds_of(training))
  if training.seeds == 1:
    return {"": seeds}
  parts = [seeds[i : i + in_parallel] for i in range(0, training.seeds, in_parallel)]
  return {f"seed-{part[0]}" if len(part) == 1 else f"seeds-{part[0]}-{part[-1]}": part for part in parts}


def side_by_side(batches: Sequence[Callable], seeds: Sequence[int]) -> tuple[Callable, int | tuple[int, ...]]:
  """The batches and the seed that `fit` is to have for some seeds: for one, or for several side by side."""
  return (batches[0], seeds[0]) if len(seeds) == 1 else (for_seeds(batches), tuple(seeds))


def check_seeds(training: Training):
  """Refuses a first seed that leaves no room for all.

  Raises:
    ValueError: with it.
  """
  if training.seed > 2**32 - training.seeds:
    raise ValueError(f"expected --seed to be at most 2**32 - {training.seeds}, the --seeds, got {training.seed}")
