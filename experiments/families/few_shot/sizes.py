"""Sizes of tasks: those of the flags, with fewer ways and queries where user-supplied data have too few for them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.families.few_shot.config import Setup, settings_of
from experiments.families.image_flags import ImageData, is_user_supplied
from metajax.checks import counted
from metajax.data import ImageDataset
from metajax.experiment.settings import VARIABLE, is_variable

MIN_WAYS, MAX_QUERIES = 5, 10  # of variable tasks, as in Meta-Dataset
PARTS = {"train": "training", "validation": "validation", "test": "test"}


class TaskSize(NamedTuple):
  """Classes of a task, and support and query images per class; the most of variable tasks, without shots."""

  ways: int
  shots: int
  queries: int


def variable(ways_up_to: int) -> TaskSize:
  """The size of tasks of variable ways and shots."""
  return TaskSize(ways_up_to, VARIABLE, MAX_QUERIES)


def chance(size: TaskSize, source: ImageDataset) -> float:
  """The mean accuracy of guesses in percent, of tasks of a size from the classes of a source."""
  ways = size.ways
  if not is_variable(size[:2]):
    return 100 / ways
  return float(np.mean([100 / n for n in range(min(MIN_WAYS, ways), min(ways, len(source.classes)) + 1)]))


class Sizes(NamedTuple):
  """Sizes of the tasks of a run: in training, in validation, and at each test setting."""

  training: TaskSize
  validation: TaskSize
  tests: tuple[TaskSize, ...]


def requested(setup: Setup) -> Sizes:
  """The sizes that the flags ask for."""
  if setup.task.ways_up_to is not None:
    size = variable(setup.task.ways_up_to)
    return Sizes(size, size, (size,))
  tests = tuple(TaskSize(*test, setup.tests.test_queries) for test in settings_of(setup))
  return Sizes(TaskSize(setup.task.ways, setup.task.shots, setup.task.queries), tests[0], tests)


def sizes_for(setup: Setup, parts: Mapping[str, ImageDataset], of_tasks: bool = True) -> Sizes:
  """The sizes that the flags ask for, reduced and printed where user-supplied data have too few classes or images.

  Variable tasks are not reduced. A test setting that needs more shots than there are images is left out, if another
  setting remains.

  Args:
    setup: Shared flags.
    parts: Parts of the data.
    of_tasks: False if the learner does not train on tasks, whose sizes are then not reduced.

  Raises:
    ValueError: if a part has too few classes or images for any task, naming the classes of each part and a flag.
  """
  training, _, tests = asked = requested(setup)
  if not is_user_supplied(setup.data) or setup.task.ways_up_to is not None:
    return asked
  try:
    fitted = fit("training", parts["train"], [training], setup.task.within_superclass)[0] if of_tasks else training
    tested = fit("test", parts["test"], tests, quiet=True)
    first = next(size for size in tests if size.shots == tested[0].shots)
    return Sizes(fitted, fit("validation", parts["validation"], [first])[0], fit("test", parts["test"], tests))
  except ValueError as error:
    raise ValueError(f"{error} ({numbers_of_classes(parts)})") from None


def numbers_of_classes(parts: Mapping[str, ImageDataset]) -> str:
  """The number of classes of each part, in words."""
  return ", ".join(f"{name}: {counted(len(parts[part].classes), 'class', 'classes')}" for part, name in PARTS.items())


def fit(
  part: str, source: ImageDataset, sizes: Sequence[TaskSize], within: bool = False, quiet: bool = False
) -> tuple[TaskSize, ...]:
  """The sizes, with no more ways and queries than the images of a part allow; prints each reduction.

  Args:
    part: Name of the part.
    source: Images of the part.
    sizes: Requested sizes, of which those with too many shots are left out if others remain.
    within: True if the classes of a task share a superclass.
    quiet: True if nothing is printed.

  Returns:
    The sizes, each once.

  Raises:
    ValueError: if there are fewer than two classes, or too few images for the shots and a query.
  """
  classes, images = _least(source, within)
  if classes < 2:
    where = f"classes in every superclass of {part}" if within else f"{part} classes"
    raise ValueError(f"expected 2 or more {where}, got {classes}: --split-classes or --train-on-all gives more")
  possible = [size for size in sizes if size.shots < images]
  if not possible:
    raise ValueError(_too_few_images(part, source, min(size.shots for size in sizes)))
  found = [TaskSize(min(ways, classes), shots, min(queries, images - shots)) for ways, shots, queries in possible]
  if not quiet:
    left_out = [f"{ways}w{shots}s" for ways, shots, _ in sizes if shots >= images]
    _print(_reductions(part, classes, images, possible, found))
    _print(f"{part}: {_of_smallest(images)}, so {setting} is left out" for setting in left_out)
  return tuple(dict.fromkeys(found))


def fewer_classes(setup: Setup, source: ImageDataset, classes: int, each: int, seed: int) -> tuple[int, int]:
  """Classes per batch, and images of each, reduced and printed where user-supplied data have too few.

  Args:
    setup: Shared flags.
    source: Training images.
    classes: Requested classes per batch.
    each: Requested images per class.
    seed: Seed of the batches; a reduction is printed for the first one.
  """
  if not is_user_supplied(setup.data):
    return classes, each
  there, images = _least(source, setup.task.within_superclass)
  if seed == setup.training.seed:
    if there < classes:
      _print([f"training: {_classes(there)}, so its batches have {there} classes instead of {classes}"])
    if images < each:
      _print([f"training: {_of_smallest(images)}, so its batches have {images} of each class instead of {each}"])
  return min(there, classes), min(images, each)


def fitted(flags: ImageData, part: str, source: ImageDataset, size: TaskSize, quiet: bool = False) -> TaskSize:
  """The size of the tasks of a part, reduced and printed as by `fit` if the data are user-supplied."""
  return fit(part, source, [size], quiet=quiet)[0] if is_user_supplied(flags) and not is_variable(size[:2]) else size


def _too_few_images(part, source, shots) -> str:
  counts = np.bincount(source.labels, minlength=len(source.classes))
  images, smallest = int(counts.min()), source.classes[int(np.argmin(counts))]
  fewer = [f"{'--shots' if part == 'training' else '--test with shots'} of at most {images - 1}"] * (images > 1)
  larger = [f"--min-images-per-class above {images}"] * bool(counts.max() > images or not fewer)
  given = f"expected {shots + 1} or more images of each {part} class, for {shots}-shot tasks, got {images} of"
  return f"{given} {smallest!r}: pass {' or '.join(fewer + larger)}"


def _reductions(part, classes, images, sizes, found):
  for asked, got in zip(sizes, found, strict=True):
    if got.ways < asked.ways:
      advice = "; --train-on-all trains on every class, --split-classes distributes them" * (part == "training")
      yield f"{part}: {_classes(classes)}, so its tasks have {got.ways} ways instead of {asked.ways}" + advice
    if got.queries < asked.queries:
      tasks = f"{got.shots}-shot tasks have {counted(got.queries, 'query', 'queries')} per class"
      yield f"{part}: {_of_smallest(images)}, so its {tasks} instead of {asked.queries}"


def _least(source, within) -> tuple[int, int]:
  """The number of classes that a task can be drawn from, and of images of the smallest class."""
  groups = np.unique(source.superclasses, return_counts=True)[1] if within else [len(source.classes)]
  return int(min(groups)), int(np.bincount(source.labels, minlength=len(source.classes)).min())


def _classes(number: int) -> str:
  return counted(number, "class", "classes")


def _of_smallest(images: int) -> str:
  return f"{counted(images, 'image')} of the smallest class"


def _print(lines: Iterable[str]):
  for line in dict.fromkeys(lines):
    print(line)
