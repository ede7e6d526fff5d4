"""Flags that every pretraining experiment has, in groups."""

from typing import Annotated, Literal, NamedTuple

import optax

from experiments.families.data import ImageData
from experiments.families.few_shot.config import ways_and_shots
from experiments.families.representation.data import Classes
from metajax.experiment import RUN, RunFlags, Training
from metajax.experiment.bounds import Count, NotNegative, Positive, TwoOrMore, ZeroOrMore
from metajax.experiment.former_flags import also
from metajax.mesh import devices_for
from metajax.train import adamw, lars, scale_learning_rate, warmup_cosine

TRAINING = Training(seeds_in_parallel=1)


class Outer(NamedTuple):
  """The batches and the optimizer."""

  batch_size: TwoOrMore = 256
  """Examples in a step."""
  optimizer: Literal["lars", "adamw"] = "lars"
  """Without weight decay (and trust ratio) on biases and norms."""
  learning_rate: Annotated[Positive, *also("--rate")] = 0.3
  """Learning rate for a batch of 256 examples."""
  lr_scaling: Annotated[Literal["linear", "square_root"], *also("--rate-rule")] = "linear"
  """How the learning rate grows with the batch size."""
  weight_decay: Annotated[ZeroOrMore, *also("--decay")] = 1e-6
  """Weight decay."""
  warmup_steps: Annotated[NotNegative, *also("--warmup")] = 500
  """Steps over which the learning rate rises; after them it falls along a cosine."""


class Probing(NamedTuple):
  """What frozen features are tested on."""

  classes: Classes = "auto"
  """Probed on the same classes as pretrained on (the data's own splits), or on unseen ones."""
  test: tuple[str, ...] = ("5w1s", "5w5s")
  """Few-shot settings to test frozen embeddings at, where there are unseen classes."""
  test_queries: Count = 15
  """Query images of each class in a test task."""
  test_tasks: TwoOrMore = 1000
  """Test tasks of each setting."""


class Setup(NamedTuple):
  """What every pretraining experiment has beside its learner."""

  data: ImageData = ImageData()
  outer: Outer = Outer()
  training: Training = TRAINING
  probing: Probing = Probing()
  run: RunFlags = RUN


def optimizer_of(setup: Setup) -> optax.GradientTransformation:
  """The setup's, with its schedule."""
  make = lars if setup.outer.optimizer == "lars" else adamw
  return make(learning_rate_of(setup.outer, setup.training.steps), weight_decay=setup.outer.weight_decay)


def learning_rate_of(outer: Outer, steps: int) -> optax.Schedule:
  """The learning rate of a batch, at each step."""
  highest = scale_learning_rate(outer.learning_rate, outer.batch_size, outer.lr_scaling)
  return warmup_cosine(highest, steps, outer.warmup_steps)


def settings_of(probing: Probing) -> list[tuple[int, int]]:
  """Ways and shots of each few-shot setting to test at."""
  return [ways_and_shots(text) for text in probing.test]


def check(training: Training, batch_size: int, warmup_steps: int, tests: tuple[str, ...]):
  """Refuses flags that do not fit each other, before data are loaded.

  Raises:
    ValueError: naming them.
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
