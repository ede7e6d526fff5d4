"""What a training is given, looked at before anything runs."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import optax

from metajax import checks
from metajax.types import Batches, Learner


def check_learner(learner: Learner):
  """Refuses what cannot be trained.

  Raises:
    TypeError: with what it is.
  """
  checks.record("learner", learner, Learner, "a function of metajax.learners makes one, such as maml(network, adapt)")
  for name in ("init", "loss"):
    checks.function(f"the learner's {name}", getattr(learner, name), "as metajax.types.Learner has it")


def check_optimizer(optimizer: optax.GradientTransformation):
  """Refuses what is no optimizer, such as a rate.

  Raises:
    TypeError: with what it is.
  """
  if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
    raise TypeError(
      f"expected optimizer to be one of optax, such as optax.adam(1e-3), got {checks.describe(optimizer)}"
    )


def check_batches(batches: Batches):
  """Refuses what is no `batches(start, shard)`: it is called again where a run goes on, and by each host.

  Raises:
    TypeError: with what it is, or the arguments that it takes.
  """
  checks.function("batches", batches, "batches(start, shard) itself rather than what it gives")
  try:
    takes = inspect.signature(batches)
  except (TypeError, ValueError):  # not all that is built in says what it takes
    return
  try:
    takes.bind(0, (0, 1))
  except TypeError:
    raise TypeError(
      f"expected a function batches(start, shard), such as batches(0, (0, 1)), got batches{takes}"
    ) from None


def seeds_in(seed: int | Sequence[int]) -> list[int]:
  """The seeds: of one alone, or of several."""
  given: Any = seed  # of NumPy's numbers and arrays too, which are no int and no Sequence
  return list(given) if np.ndim(given) else [given]


def check_seed(seed: int | Sequence[int]):
  """Refuses what is neither a seed nor several.

  Raises:
    ValueError: quoting it.
  """
  several = seeds_in(seed)
  if not several:
    raise ValueError("expected a seed, or several, got none")
  for one in several:
    checks.count("a seed", one, least=0, most=2**32 - 1)  # beyond, JAX's keys repeat


def check_checkpoints(checkpoints: Any):
  """Refuses what is no `Checkpoints`, such as a folder.

  Raises:
    TypeError: with what it is.
  """
  if checkpoints is not None and not hasattr(checkpoints, "check_savable"):
    given = checks.describe(checkpoints)
    raise TypeError(f"expected checkpoints to be Checkpoints, such as Checkpoints('runs/one'), got {given}")
