"""Flags that every few-shot experiment has, in groups."""

import re
from typing import Annotated, Literal, NamedTuple

import optax

from experiments.families.data import ImageData
from metajax.experiment import RUN, RunFlags, Training
from metajax.experiment.bounds import Bounds, Count, Positive, TwoOrMore
from metajax.experiment.former_flags import also

Schedule = Literal["none", "cosine", "linear", "halving"]
TRAINING = Training(steps=60000)


class Task(NamedTuple):
  """The training tasks."""

  ways: TwoOrMore = 5
  """Classes of a training task."""
  shots: Count = 1
  """Support images of each class in a training task."""
  queries: Count = 15
  """Query images of each class in a training task."""
  meta_batch_size: Annotated[int, *Count.__metadata__, *also("--tasks")] = 32
  """Training tasks in a step."""
  within_superclass: Annotated[bool, *also("--within-groups")] = False
  """The classes of a training task (or batch) are of one alphabet."""


class Outer(NamedTuple):
  """The outer optimizer."""

  learning_rate: Annotated[Positive, *also("--rate")] = 1e-3
  """Learning rate of the outer optimizer, Adam unless said otherwise."""
  schedule: Annotated[Schedule, *also("--decay")] = "none"
  """How the learning rate falls: to 0 along a cosine or a line, or by half every 2,000 steps."""


class Tests(NamedTuple):
  """Tasks of unseen classes, to choose a step by and to test on."""

  test: tuple[str, ...] = ()
  """Settings to test at, such as 5w1s 20w5s; the training setting by default."""
  test_queries: Count = 15
  """Query images of each class in a validation or test task."""
  test_tasks: TwoOrMore = 1000
  """Test tasks of each setting."""
  adaptation_curve: Annotated[int, Bounds(0, 1000), *also("--curve")] = 0
  """Measure the accuracy after 0, 1, ... to this many adaptation steps, at the first setting."""
  validation_tasks: TwoOrMore = 200
  """Validation tasks, from classes cut from training."""


TESTS = Tests(test=("5w1s", "5w5s", "20w1s"))


class Setup(NamedTuple):
  """What every few-shot experiment has beside its learner."""

  data: ImageData = ImageData()
  task: Task = Task()
  outer: Outer = Outer()
  training: Training = TRAINING
  tests: Tests = Tests()
  run: RunFlags = RUN


ON_CPU = Setup(
  task=Task(queries=5, meta_batch_size=16), outer=Outer(2e-3, "cosine"), tests=TESTS
)  # that most start from


def schedule(setup: Setup) -> optax.Schedule | float:
  """The outer learning rate: constant, along a cosine or a line to 0 at the last step, or halved every 2,000 steps."""
  (learning_rate, how), steps = setup.outer, max(setup.training.steps, 1)
  if how == "linear":
    return optax.linear_schedule(learning_rate, 0, steps)
  if how == "cosine":
    return optax.cosine_decay_schedule(learning_rate, steps)
  return optax.exponential_decay(learning_rate, 2000, 0.5, staircase=True) if how == "halving" else learning_rate


def settings_of(setup: Setup) -> list[tuple[int, int]]:
  """Ways and shots of each setting to test at."""
  return [ways_and_shots(text) for text in setup.tests.test] or [(setup.task.ways, setup.task.shots)]


def ways_and_shots(text: str) -> tuple[int, int]:
  """5 and 1 of "5w1s".

  Raises:
    ValueError: if it is something else.
  """
  found = re.fullmatch(r"0*(\d{1,6})w0*(\d{1,6})s", text, re.ASCII)
  if not found or int(found[1]) < 2 or int(found[2]) < 1:
    raise ValueError(f"expected a setting to test at such as 5w1s, got {text!r}")
  return int(found[1]), int(found[2])
