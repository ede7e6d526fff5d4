"""Training, validation and test tasks of the few-shot experiments."""

import contextlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from experiments.families.encoder import Images
from experiments.families.few_shot.config import Setup
from experiments.families.few_shot.sizes import MAX_QUERIES, MIN_WAYS, TaskSize
from metajax.data import ImageDataset, episodes, variable_episodes
from metajax.experiment.evaluators.few_shot import CHUNK_SIZE, TEST_SEED
from metajax.experiment.settings import Setting, is_variable
from metajax.mesh import round_up_to_hosts
from metajax.types import Batches, Episode, Examples, Padded

VALIDATION_SEED = 1  # of the validation tasks, the same for every learner and every run
VARIABLE_CHUNK_SIZE = 2  # variable tasks per evaluation batch, of up to 1,000 images each


def training_batches(setup: Setup, size: TaskSize, source: ImageDataset, seed: int) -> Batches:
  """The training tasks of a setup."""
  task = setup.task
  if is_variable(size[:2]):
    return _variable(source, size, task.meta_batch_size, seed, "training")
  with _named("training", "--ways, --shots, --queries"):
    how = {**size._asdict(), "within_superclass": task.within_superclass}
    return episodes(source, **how, meta_batch_size=task.meta_batch_size, seed=seed)


def test_batches(source: ImageDataset, sizes: Sequence[TaskSize]) -> dict[Setting, Batches]:
  """Returns `{(ways, shots): batches of tasks}` for the test settings."""
  return {(size.ways, size.shots): tasks_of(source, *size, TEST_SEED) for size in sizes}


def tasks_of(source: ImageDataset, ways: int, shots: int, queries: int, seed: int, part: str = "test") -> Batches:
  """Validation or test tasks."""
  if is_variable((ways, shots)):
    size = TaskSize(ways, shots, queries)
    return _variable(source, size, round_up_to_hosts(VARIABLE_CHUNK_SIZE), seed, part)
  with _named(part, "--test, --test-queries"):
    return episodes(
      source, ways=ways, shots=shots, queries=queries, meta_batch_size=round_up_to_hosts(CHUNK_SIZE), seed=seed
    )


def blank(form: Images, tasks: int, ways: int, *counts: int) -> Episode:
  """Shapes of tasks, with `counts` support and query images per class; variable ones are padded."""
  of = lambda *shape: jax.ShapeDtypeStruct((tasks, *shape), jnp.float32)
  image, variable = (form.size, form.size, form.channels), is_variable((ways, counts[0]))

  def examples(rows):
    inputs = of(rows, *image)
    return Examples(Padded(inputs, of(rows).update(dtype=bool)) if variable else inputs, of(rows, ways))

  return Episode(*(examples(ways * (MAX_QUERIES if variable else n)) for n in counts))


def _variable(source: ImageDataset, size: TaskSize, tasks: int, seed: int, part: str) -> Batches:
  """Tasks of variable ways and shots."""
  with _named(part, "--ways-up-to"):
    how = {"min_ways": min(MIN_WAYS, size.ways), "max_ways": size.ways, "max_queries": size.queries}
    return variable_episodes(source, **how, meta_batch_size=tasks, seed=seed)


@contextlib.contextmanager
def _named(part: str, flags: str):
  """Adds the part of the data and the flags concerned to an error."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{error} ({part} classes: {flags})") from None
