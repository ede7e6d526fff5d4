"""Groups of flags shared by all few-shot experiments."""

import re
from typing import Annotated, Literal, NamedTuple

import optax

from experiments.families.data import ImageData
from experiments.families.encoder import Start
from metajax.experiment import RUN, RunFlags, Training
from metajax.experiment.bounds import Bounds, Count, Positive, TwoOrMore
from metajax.experiment.former_flags import Former, also
from metajax.experiment.settings import VARIABLE, Setting

Schedule = Literal["none", "cosine", "linear", "halving"]
TRAINING = Training(steps=60000)


class Task(NamedTuple):
  """Training tasks."""

  ways: TwoOrMore = 5
  """Classes per training task."""
  shots: Count = 1
  """Support images per class in a training task."""
  queries: Count = 15
  """Query images per class in a training task."""
  meta_batch_size: Annotated[int, *Count.__metadata__, *also("--tasks")] = 32
  """Training tasks per meta-batch."""
  within_superclass: Annotated[bool, *also("--within-groups")] = False
  """Draw all classes of a training task (or batch) from one superclass, such as one alphabet."""
  ways_up_to: Annotated[int | None, *TwoOrMore.__metadata__] = None
  """Most classes per task of variable ways and shots (Meta-Dataset), in place of --ways, --shots, --queries, --test."""


class Images(NamedTuple):
  """Images as the network sees them."""

  augmentation: Annotated[Literal["none", "affine"], Former("--distort", "affine")] = "none"
  """Augmentation of the training images."""
  center: Annotated[bool, *also("--centre")] = False
  """Center each character and scale it to one size, before the network."""


class Outer(NamedTuple):
  """Outer optimizer."""

  learning_rate: Annotated[Positive, *also("--rate")] = 1e-3
  """Learning rate of the outer optimizer."""
  schedule: Annotated[Schedule, *also("--decay")] = "none"
  """Schedule of the outer learning rate: constant, decayed to 0 along a cosine or line, or halved every 2,000 steps."""


class Tests(NamedTuple):
  """Validation and test tasks from unseen classes."""

  test: tuple[str, ...] = ()
  """Test settings, such as 5w1s 20w5s; by default the training setting."""
  test_queries: Count = 15
  """Query images per class in a validation or test task."""
  test_tasks: TwoOrMore = 1000
  """Number of test tasks per setting."""
  adaptation_curve: Annotated[int, Bounds(0, 1000), *also("--curve")] = 0
  """Length of the adaptation curve: test accuracy after 0, 1, ... up to this many steps, at the first test setting."""
  validation_tasks: TwoOrMore = 200
  """Number of validation tasks, drawn from classes held out of training."""


TESTS = Tests(test=("5w1s", "5w5s", "20w1s"))


class Setup(NamedTuple):
  """Flags of every few-shot experiment, apart from those of the learner."""

  data: ImageData = ImageData()
  task: Task = Task()
  outer: Outer = Outer()
  training: Training = TRAINING
  tests: Tests = Tests()
  run: RunFlags = RUN
  start: Start = Start()
  images: Images = Images()


ON_CPU = Setup(
  task=Task(queries=5, meta_batch_size=16), outer=Outer(2e-3, "cosine"), tests=TESTS
)  # the basis of most CPU presets


def schedule(setup: Setup) -> optax.Schedule | float:
  """The outer learning rate: constant, decayed to 0 along a cosine or a line, or halved every 2,000 steps."""
  (learning_rate, how), steps = setup.outer, max(setup.training.steps, 1)
  if how == "linear":
    return optax.linear_schedule(learning_rate, 0, steps)
  if how == "cosine":
    return optax.cosine_decay_schedule(learning_rate, steps)
  return optax.exponential_decay(learning_rate, 2000, 0.5, staircase=True) if how == "halving" else learning_rate


def most_ways(setup: Setup) -> int:
  """The most classes of a training task."""
  return setup.task.ways_up_to or setup.task.ways


def settings_of(setup: Setup) -> list[Setting]:
  """Ways and shots of each test setting."""
  if setup.task.ways_up_to is not None:
    return [(setup.task.ways_up_to, VARIABLE)]
  return [ways_and_shots(text) for text in setup.tests.test] or [(setup.task.ways, setup.task.shots)]


def ways_and_shots(text: str) -> tuple[int, int]:
  """Parses a setting: "5w1s" gives (5, 1).

  Raises:
    ValueError: if the text is not a setting.
  """
  found = re.fullmatch(r"0*(\d{1,6})w0*(\d{1,6})s", text, re.ASCII)
  if not found or int(found[1]) < 2 or int(found[2]) < 1:
    raise ValueError(f"expected a test setting such as 5w1s, got {text!r}")
  return int(found[1]), int(found[2])
