"""Few-shot experiments: training, validation and test tasks for a learner, and figures."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from experiments.families import encoder as published_encoder
from experiments.families import published
from experiments.families.data import check_disjoint, describe, load_part, load_parts, slug, tested_on
from experiments.families.few_shot import figures
from experiments.families.few_shot.choice import Choice
from experiments.families.few_shot.config import Setup, schedule
from experiments.families.few_shot.networks import in_training, prepared, variant_of
from experiments.families.few_shot.sizes import (
  Sizes,
  TaskSize,
  chance,
  fitted,
  numbers_of_classes,
  requested,
  sizes_for,
)
from experiments.families.few_shot.tasks import VALIDATION_SEED, blank, tasks_of, test_batches, training_batches
from experiments.families.image_flags import seen
from metajax.data import ImageDataset
from metajax.evaluate import few_shot_accuracy
from metajax.experiment import EvalMode, Experiment, FewShot
from metajax.experiment.evaluators.few_shot import check_curve
from metajax.losses import check_fits
from metajax.mesh import devices_for
from metajax.pixels import images_to_float
from metajax.types import Batches, Episode, Learner

LEAST_SIZE = 16  # of images that are downsampled four times
PARTS = ("train", "validation", "test")
Draw = Callable[[ImageDataset, int], Batches]  # (source, seed) -> Batches


def few_shot_experiment(
  setup: Setup,
  name: str,
  learner: Learner,
  modes: Sequence[EvalMode],
  *,
  optimizer: optax.GradientTransformation | None = None,
  batches: Draw | None = None,
  compares: figures.PairScore | None = None,
  choice: Choice | None = None,
  encoder: str = "",
) -> Experiment:
  """The experiment of a learner on the tasks of a setup, evaluated at the best validation step; data load lazily.

  Args:
    setup: Shared flags.
    name: Name of the method and its runs.
    learner: Learner to train, before the flags that prepare and augment its images.
    modes: Evaluation modes, likewise; the first one selects the step by validation, and is shown on the run's page.
    optimizer: Outer optimizer; by default Adam with the setup's schedule.
    batches: `(source, seed) -> Batches` to train on; by default episodes.
    compares: Score of each query and support image to show on the run's page, if any.
    encoder: Name of the network that embeds images, in the records.
    choice: What to test in place of `modes`, chosen after training by validation tasks of each test setting.

  Raises:
    ValueError: if the flags are inconsistent.
  """
  modes, learner = _started(setup, modes), in_training(setup.images, learner)
  tests, of_tasks = setup.tests, batches is None
  check_curve(modes, tests.adaptation_curve)
  _check(setup, learner, modes, of_tasks)
  parts = functools.cache(lambda: _loaded(setup))
  sizes = functools.cache(lambda: _fitted(setup, parts(), learner if of_tasks else None, modes))
  validation = functools.cache(lambda: _validation(parts()["validation"], sizes().validation))
  tested = functools.cache(lambda: test_batches(parts()["test"], sizes().tests))
  draw = batches or (lambda source, seed: training_batches(setup, sizes().training, source, seed))
  tester = evaluator(setup, modes, tested, lambda: sizes().tests, lambda: parts()["test"])
  tester = tester._replace(trained_on_tasks=of_tasks, said=_said(setup, encoder, of_tasks))
  shown = modes[0].learner

  def validate(params, state):
    return few_shot_accuracy(shown, params, state, validation(), tests.validation_tasks).mean

  return Experiment(
    f"{name}-{slug(setup.data)}",
    learner,
    published_encoder.optimizer_for(setup.start, optimizer or optax.adam(schedule(setup))),
    lambda seed: draw(parts()["train"], seed),
    (tester if choice is None else _choosing(setup, tester, choice, parts, lambda: sizes().tests),),
    validate,
    "best",
    lambda folder, trained, records: figures.draw(folder, shown, trained, parts(), setup, compares, sizes().tests[0]),
    lambda trained, records: figures.notes(parts(), seen(setup.data)),
    title=f"{name} on {slug(setup.data)}",
    check=functools.partial(_check_tests, () if of_tasks else modes, validation, tested),
    deployed=deployed(modes),
    preprocessing=images_of(setup).preprocessing,
  )


def _choosing(setup: Setup, tester: FewShot, choice: Choice, parts: Callable, sizes: Callable) -> FewShot:
  """The evaluator that tests what is chosen on validation tasks of the size of each test."""

  def validation(test):
    source, size = parts()["validation"], next(size for size in sizes() if size[:2] == test)
    return _validation(source, fitted(setup.data, "validation", source, size, quiet=True))

  chosen = choice.mapped(lambda some: _started(setup, some))
  return tester._replace(choose=chosen.choose, validation=validation)


def _said(setup: Setup, encoder: str, of_tasks: bool) -> dict[str, Any]:
  """Entries on the network and its training in the records."""
  start, task = setup.start.encoder, setup.task
  named = {"encoder": encoder if start is None else start.name, "image_size": images_of(setup).size}
  tasks = f"{task.ways}-way {task.shots}-shot" if task.ways_up_to is None else f"up to {task.ways_up_to}-way"
  return (named if named["encoder"] else {}) | ({"trained_on": tasks} if of_tasks else {})


def images_of(setup: Setup) -> published_encoder.Images:
  """The images that the network of a setup takes."""
  return published_encoder.images_for(setup.start, setup.data.data, setup.data.size)


def load_part_for(setup: Setup, part: str) -> ImageDataset:
  """Loads a part of the images for the network of a setup."""
  size, _, preprocessing = images_of(setup)
  return load_part(setup.data._replace(size=size), part, preprocessing)


def _started(setup: Setup, modes: Sequence[EvalMode]) -> tuple[EvalMode, ...]:
  """The modes on prepared images, named after these, the training tasks and the published encoder, if one is given."""
  modes = [_on_prepared(setup, mode) for mode in modes]
  if setup.task.within_superclass:
    modes = [mode._replace(variant=(*mode.variant, "within alphabets")) for mode in modes]
  if setup.task.ways_up_to is not None:
    modes = [mode._replace(variant=(*mode.variant, "variable ways")) for mode in modes]
  if setup.start.encoder is None:
    published_encoder.read(setup.start)  # refuses flags without effect
    return tuple(modes)
  added, kept = published_encoder.variant_of(setup.start), published_encoder.keeps_statistics(setup.start)
  named = [mode._replace(variant=(*mode.variant, *added)) for mode in modes]
  return tuple(named if kept else [mode._replace(query_norm="none") for mode in named])


def _on_prepared(setup: Setup, mode: EvalMode) -> EvalMode:
  images, after = setup.images, mode.after
  again = after and (lambda steps: prepared(images, after(steps)))
  variant = (*mode.variant, *variant_of(images))
  return mode._replace(learner=prepared(images, mode.learner), after=again, variant=variant)


def _check(setup: Setup, learner: Learner, modes: Sequence[EvalMode], of_tasks: bool):
  if setup.task.ways_up_to is not None and setup.task.within_superclass:
    raise ValueError("expected --ways-up-to or --within-superclass, got both")
  if of_tasks:
    check_shapes(learner, modes, setup, requested(setup))
  elif setup.start.encoder is None and setup.data.size < LEAST_SIZE:
    raise ValueError(f"expected --size to be at least {LEAST_SIZE}, got {setup.data.size}")


def deployed(modes: Sequence[EvalMode]) -> Learner:
  """The learner of the first mode in which the label of one image does not depend on the others, if there is one."""
  return next((mode.learner for mode in modes if not mode.query_norm.startswith("transductive")), modes[0].learner)


def evaluator(
  setup: Setup,
  modes: Sequence[EvalMode],
  tests: Callable[[], dict],
  sizes: Callable[[], Sequence[TaskSize]],
  source: Callable[[], ImageDataset],
) -> FewShot:
  """The few-shot evaluator of a setup; `sizes()` are those of its tests, of the images of `source()`."""
  data, flags = setup.data, setup.tests

  def of_paper(mode, ways, shots):
    return published.accuracy(mode.title, mode.query_norm, data.data, ways, shots)

  return FewShot(
    tuple(modes),
    tests,
    flags.test_queries,
    flags.test_tasks,
    flags.adaptation_curve,
    tested_on(data),
    of_paper,
    queries_of=lambda: {(ways, shots): queries for ways, shots, queries in sizes()},
    chance_of=lambda: {size[:2]: chance(size, source()) for size in sizes()},
    unseen=not seen(data),
  )


def _loaded(setup: Setup) -> dict[str, ImageDataset]:
  parts = load_parts(setup.data, PARTS, lambda data, part: load_part_for(setup, part))
  check_disjoint(setup.data, **parts)
  describe(setup.data, parts)
  return parts


def _fitted(
  setup: Setup, parts: Mapping[str, ImageDataset], learner: Learner | None, modes: Sequence[EvalMode]
) -> Sizes:
  """The sizes of tasks that the data have enough for; `learner` is None if it does not train on tasks."""
  found = sizes_for(setup, parts, of_tasks=learner is not None)
  if learner is not None and found != requested(setup):
    try:
      check_shapes(learner, modes, setup, found._replace(tests=(found.training, found.validation, *found.tests)))
    except ValueError as error:
      ways = min(size.ways for size in (found.training, found.validation, *found.tests))
      advice = f"pass --ways {ways} --test {ways}w{found.tests[0].shots}s"
      raise ValueError(f"{error} ({numbers_of_classes(parts)}): {advice}") from None
  return found


def _validation(source: ImageDataset, size: TaskSize) -> Batches:
  return tasks_of(source, *size, VALIDATION_SEED, "validation")


def _check_tests(modes: Sequence[EvalMode], validation: Callable, tested: Callable, shapes: tuple, example: Any):
  for some in (validation(), *tested().values()):  # raises if the data are too few
    if modes:
      check_fits_test(modes, shapes, next(some()))


def check_fits_test(modes: Sequence[EvalMode], shapes: tuple, test_episodes: Episode):
  """Checks before training, without compiling, that a learner can be tested at a setting.

  Raises:
    ValueError: if the logits do not fit the labels.
  """
  support, query = jax.eval_shape(lambda tasks: jax.tree.map(lambda x: x[0], images_to_float(tasks)), test_episodes)
  for mode in modes:
    check_fits(jax.eval_shape(mode.learner.predict, *shapes, support, query.inputs), query.labels)


def check_shapes(learner: Learner, modes: Sequence[EvalMode], setup: Setup, sizes: Sizes):
  """Checks the shapes of an episodic learner on tasks of some sizes, without data and without compiling.

  Raises:
    ValueError: if the devices do not divide the tasks, the images are too small for the network, or the learner cannot
      be tested at a setting.
  """
  task, form = setup.task, images_of(setup)
  devices = devices_for(task.meta_batch_size, setup.training.devices)
  if task.meta_batch_size % devices:
    raise ValueError(f"expected --meta-batch-size that {devices} devices divide, got {task.meta_batch_size}")
  shapes = jax.eval_shape(learner.init, jax.random.key(0), blank(form, task.meta_batch_size, *sizes.training))
  for test in sizes.tests:
    check_fits_test(modes, shapes, blank(form, 1, *test))
