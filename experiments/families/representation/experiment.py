"""A pretraining experiment of a learner: what it learns from, its k-NN curve, its probes and figures."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families.data import slug
from experiments.families.representation import figures
from experiments.families.representation.config import Setup, check, optimizer_of
from experiments.families.representation.data import ProbeSplits, describe, load_parts
from experiments.families.representation.evaluators import (
  EmbedFn,
  FrozenFeatures,
  accuracy_of_neighbors,
  few_shot_tests,
  known_and_asked,
  of_curve,
)
from metajax.data import ImageDataset, train_batches
from metajax.experiment import Evaluator, Experiment
from metajax.train import TrainState
from metajax.types import Batches, Learner, Network

Draw = Callable[[Any, Setup, int], Batches]  # of what there is to learn from, a setup and a seed


def without_labels(source: ImageDataset, setup: Setup, seed: int) -> Batches:
  """Batches of the images of a source, or whatever else its inputs are."""
  alike = source._replace(classes=("",), labels=np.zeros_like(source.labels))
  labeled = train_batches(alike, batch_size=setup.outer.batch_size, seed=seed)
  return lambda start=0, shard=(0, 1): (batch.inputs for batch in labeled(start, shard))


def parts_of(setup: Setup, load: Callable[[], ProbeSplits] | None = None) -> Callable[[], ProbeSplits]:
  """`() -> ProbeSplits` of a setup's data, which are loaded once, when they are needed, and told of."""

  @functools.cache
  def parts():
    found = load_parts(setup.data, setup.probing.classes) if load is None else load()
    describe(setup.data, found)
    return found

  return parts


def representation_experiment(
  setup: Setup,
  name: str,
  learner: Learner,
  encoder: Network | Mapping[str, Network],
  *,
  draw: figures.Draw,
  parts: Callable[[], ProbeSplits] | None = None,
  batches: Draw = without_labels,
  scores: Evaluator | None = None,
  others: Mapping[str, EmbedFn] = {},
  choose: Callable[[Sequence[TrainState], ProbeSplits], Learner] | None = None,
  checked: bool = False,
) -> Experiment:
  """The experiment of a learner that is pretrained.

  Args:
    setup: the flags that all have.
    name: of its runs and records.
    learner: what is pretrained.
    encoder: the part that is kept.
    draw: `(folder, trained, parts) -> figures`.
    parts: `() -> ProbeSplits`; by default the setup's images.
    batches: what to learn from; by default images without labels.
    scores: measures something of the learner's own, beside the probes.
    others: `{what sets them apart: embed}`: more features to probe.
    choose: `(states, parts) -> Learner`: which features are looked at, by validation images.
    checked: whether it is known that images of the setup's size fit the networks.

  Raises:
    ValueError: if flags do not fit each other.
  """
  check(setup.training, setup.outer.batch_size, setup.outer.warmup_steps, setup.probing.test)
  if not checked:
    check_images(learner.init if batches is without_labels else _of_images(encoder).init, setup.data.size)
  parts, optimizer = parts or parts_of(setup), optimizer_of(setup)
  frozen = FrozenFeatures(name, learner, optimizer, encoder, parts, setup, others, choose)
  some = functools.cache(lambda: of_curve(parts()))

  def draw_all(folder, trained, records):
    return [figures.embedding_map(folder, trained, parts()), *draw(folder, trained, parts())]

  return Experiment(
    f"{name}-{slug(setup.data)}".replace(" ", "_"),
    learner,
    optimizer,
    lambda seed: _drawn(batches, parts().unlabeled, setup, seed),
    (frozen,) if scores is None else (scores, frozen),
    lambda params, state: accuracy_of_neighbors(*known_and_asked(learner.embed, params, state, some())),
    figures=draw_all,
    notes=lambda trained, records: [("Data", figures.sizes(parts()))],
    title=f"{name} on {slug(setup.data)}",
    check=lambda shapes, batch: few_shot_tests(
      setup.data, setup.probing, parts()
    ),  # refuses tests that the data are too few for
    choose=None if choose is None else lambda states: choose(states, parts()),
  )


def _drawn(batches: Draw, source: Any, setup: Setup, seed: int) -> Batches:
  size = setup.outer.batch_size
  if size > len(source.images):
    given = f"{size} of {len(source.images)} images"
    raise ValueError(f"expected a --batch-size of at most all images, got {given}")
  return batches(source, setup, seed)


def check_images(init: Callable, size: int):
  """Finds before data are loaded, without compiling, that images of a size do not fit a network.

  Raises:
    ValueError: as `init`, of a learner or a network.
  """
  jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))


def _of_images(encoder: Network | Mapping[str, Network]) -> Network:
  return encoder if isinstance(encoder, Network) else next(iter(encoder.values()))
