"""Checks of the arguments of `fit`, before anything runs."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import optax

from metajax import checks
from metajax.types import Batches, Learner


def check_learner(learner: Learner):
  """Checks a learner.

  Raises:
    TypeError: if it is not a Learner with the functions `init` and `loss`.
  """
  checks.record("learner", learner, Learner, "a function of metajax.learners makes one, such as maml(network, adapt)")
  for name in ("init", "loss"):
    checks.function(f"the learner's {name}", getattr(learner, name), "see metajax.types.Learner")


def check_optimizer(optimizer: optax.GradientTransformation):
  """Checks an optimizer.

  Raises:
    TypeError: if it is not an optax optimizer (for example a learning rate).
  """
  if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
    raise TypeError(
      f"expected optimizer to be an optax optimizer, such as optax.adam(1e-3), got {checks.describe(optimizer)}"
    )


def check_batches(batches: Batches):
  """Checks `batches(start, shard)`, a function because it is called again on resume, and by each host.

  Raises:
    TypeError: if it is not a function, or does not accept these two arguments.
  """
  checks.function("batches", batches, "batches(start, shard) itself rather than its result")
  try:
    takes = inspect.signature(batches)
  except (TypeError, ValueError):  # some built-ins have no signature
    return
  try:
    takes.bind(0, (0, 1))
  except TypeError:
    raise TypeError(
      f"expected a function batches(start, shard), such as batches(0, (0, 1)), got batches{takes}"
    ) from None


def seeds_in(seed: int | Sequence[int]) -> list[int]:
  """Returns a list of seeds from one seed or several."""
  given: Any = seed  # may also be a NumPy number or array, which is neither an int nor a Sequence
  return list(given) if np.ndim(given) else [given]


def check_seed(seed: int | Sequence[int]):
  """Checks one seed or several.

  Raises:
    ValueError: if a seed is not an integer in [0, 2^32), or the sequence is empty.
  """
  several = seeds_in(seed)
  if not several:
    raise ValueError("expected at least one seed, got none")
  for one in several:
    checks.count("a seed", one, least=0, most=2**32 - 1)  # above this, JAX's keys repeat


def check_checkpoints(checkpoints: Any):
  """Checks that checkpoints are None or a `Checkpoints`.

  Raises:
    TypeError: if they are something else, such as a folder.
  """
  if checkpoints is not None and not hasattr(checkpoints, "check_savable"):
    given = checks.describe(checkpoints)
    raise TypeError(f"expected checkpoints to be Checkpoints, such as Checkpoints('runs/one'), got {given}")
