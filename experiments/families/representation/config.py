"""Groups of flags shared by all pretraining experiments."""

from typing import Annotated, Literal, NamedTuple

import optax

from experiments.families.data import ImageData
from experiments.families.few_shot.config import ways_and_shots
from experiments.families.representation.data import Classes
from metajax.experiment import RUN, RunFlags, Training
from metajax.experiment.bounds import Count, DataSources, NotNegative, Positive, TwoOrMore, ZeroOrMore
from metajax.experiment.former_flags import also
from metajax.mesh import devices_for
from metajax.train import adamw, lars, scale_learning_rate, warmup_cosine

TRAINING = Training(seeds_in_parallel=1)


class Outer(NamedTuple):
  """Batch size and optimizer."""

  batch_size: TwoOrMore = 256
  """Examples per step."""
  optimizer: Literal["lars", "adamw"] = "lars"
  """Optimizer; biases and norms have no weight decay (and, under LARS, no trust ratio)."""
  learning_rate: Annotated[Positive, *also("--rate")] = 0.3
  """Learning rate for a batch of 256 examples."""
  lr_scaling: Annotated[Literal["linear", "square_root"], *also("--rate-rule")] = "linear"
  """Scaling of the learning rate with the batch size, relative to 256 examples."""
  weight_decay: Annotated[ZeroOrMore, *also("--decay")] = 1e-6
  """Weight decay of the optimizer."""
  warmup_steps: Annotated[NotNegative, *also("--warmup")] = 500
  """Warmup steps of the learning rate, which then decays along a cosine."""


class Probing(NamedTuple):
  """Evaluation of frozen features."""

  classes: Classes = "auto"
  """Classes of the probes: the same as in pretraining (official splits) or unseen; auto prefers the same."""
  test: tuple[str, ...] = ("5w1s", "5w5s")
  """Few-shot settings for testing frozen embeddings, such as 5w1s 20w5s."""
  test_queries: Count = 15
  """Query images per class in a test task."""
  test_tasks: TwoOrMore = 1000
  """Number of test tasks per setting."""


class Setup(NamedTuple):
  """Flags of every pretraining experiment, apart from those of the learner."""

  data: ImageData = ImageData()
  outer: Outer = Outer()
  training: Training = TRAINING
  probing: Probing = Probing()
  run: RunFlags = RUN
  mix: DataSources = ()
  """Weights of several sources to train on, a=0.7 b=0.3, that of --data first; --data a=0.7 b=0.3 is short for it."""


def optimizer_of(setup: Setup) -> optax.GradientTransformation:
  """The optimizer of a setup, with its learning-rate schedule."""
  make = lars if setup.outer.optimizer == "lars" else adamw
  return make(learning_rate_of(setup.outer, setup.training.steps), weight_decay=setup.outer.weight_decay)


def learning_rate_of(outer: Outer, steps: int) -> optax.Schedule:
  """The learning-rate schedule, scaled to the batch size."""
  highest = scale_learning_rate(outer.learning_rate, outer.batch_size, outer.lr_scaling)
  return warmup_cosine(highest, steps, outer.warmup_steps)


def settings_of(probing: Probing) -> list[tuple[int, int]]:
  """Ways and shots of each few-shot test setting."""
  return [ways_and_shots(text) for text in probing.test]


def check(training: Training, batch_size: int, warmup_steps: int, tests: tuple[str, ...]):
  """Refuses inconsistent flags before data are loaded.

  Raises:
    ValueError: naming the flag.
  """
  for text in tests:
    ways_and_shots(text)
  if training.steps < 2:
    raise ValueError(f"expected --steps to be at least 2, got {training.steps}")
  if warmup_steps >= training.steps:
    raise ValueError(f"expected --warmup-steps to be below the {training.steps} --steps, got {warmup_steps}")
  devices = devices_for(batch_size, training.devices)
  if batch_size % devices:
    raise ValueError(f"expected a --batch-size that {devices} devices divide, got {batch_size}")
