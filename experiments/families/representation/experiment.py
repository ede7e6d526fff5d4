"""Pretraining experiments: batches, k-NN curve, probes and figures for a learner."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families.mixing import mixed_slug
from experiments.families.representation import figures
from experiments.families.representation.config import Setup, check, optimizer_of
from experiments.families.representation.data import ProbeSplits, describe, load_mixed
from experiments.families.representation.evaluators import (
  EmbedFn,
  FrozenFeatures,
  accuracy_of_neighbors,
  few_shot_tests,
  known_and_asked,
  of_curve,
)
from metajax.data import ImageDataset, Mixture, RandomCrop, train_batches
from metajax.experiment import Evaluator, Experiment
from metajax.experiment.types import title_of
from metajax.train import TrainState
from metajax.types import Batches, Learner, Network, Preprocessing

Draw = Callable[[Any, Setup, int], Batches]  # (source, setup, seed) -> Batches


def without_labels(source: ImageDataset | Mixture, setup: Setup, seed: int, crop: RandomCrop | None = None) -> Batches:
  """Batches of the images, or of crops of the originals, of a source or a mixture, without labels."""
  alike = lambda one: one._replace(classes=("",), labels=np.zeros_like(one.labels))
  if isinstance(source, Mixture):
    unlabeled = source._replace(sources=tuple(map(alike, source.sources)))
  else:
    unlabeled = alike(source)
  labeled = train_batches(unlabeled, batch_size=setup.outer.batch_size, seed=seed, crop=crop)
  return lambda start=0, shard=(0, 1): (batch.inputs for batch in labeled(start, shard))


def from_originals(setup: Setup, crop: RandomCrop) -> dict[str, Any]:
  """Arguments of `representation_experiment` for crops of the originals, tested on the centers of the images.

  For evaluation the shorter side is resized to 8/7 of the size, 256 for 224 pixels, as in arXiv:2002.05709.
  """
  size = setup.data.size
  center = Preprocessing(size, "shortest", round(size * 8 / 7), "bilinear")
  load = lambda: load_mixed(setup.data, setup.mix, setup.probing.classes, center, originals=True)
  batches = lambda source, setup, seed: without_labels(source, setup, seed, crop._replace(size=size))
  return {"parts": parts_of(setup, load), "batches": batches, "preprocessing": center}


def parts_of(setup: Setup, load: Callable[[], ProbeSplits] | None = None) -> Callable[[], ProbeSplits]:
  """Returns `() -> ProbeSplits`, which loads the data at the first call and prints their sizes."""

  @functools.cache
  def parts():
    found = load_mixed(setup.data, setup.mix, setup.probing.classes) if load is None else load()
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
  preprocessing: Preprocessing | None = None,
  variant: tuple[str, ...] = (),
) -> Experiment:
  """The experiment of pretraining a learner.

  Args:
    setup: Shared flags.
    name: Name of the runs and of the learner in the records.
    learner: Learner to pretrain.
    encoder: Pretrained encoder.
    draw: `(folder, trained, parts) -> figures`.
    parts: `() -> ProbeSplits`; by default the setup's images.
    batches: `(source, setup, seed) -> Batches`; by default images without labels.
    scores: Evaluator of a method-specific measure, beside the probes.
    others: `{variant: embed}`: further features to probe.
    choose: `(states, parts) -> Learner`: selects the features by validation images.
    checked: True if the caller has checked that images of the setup's size fit the networks.
    preprocessing: How images are resized for evaluation, for the export; by default squashed to a square.
    variant: Distinguishes learners of a name in the records.

  Returns:
    The experiment, with k-NN accuracy as validation.

  Raises:
    ValueError: if the flags are inconsistent.
  """
  check(setup.training, setup.outer.batch_size, setup.outer.warmup_steps, setup.probing.test)
  if not checked:
    check_images(learner.init if batches is without_labels else _of_images(encoder).init, setup.data.size)
  parts, optimizer, of = parts or parts_of(setup), optimizer_of(setup), mixed_slug(setup.data, setup.mix)
  recorded = title_of(f"{name} on {of}" if setup.mix else name, variant)
  frozen = FrozenFeatures(recorded, learner, optimizer, encoder, parts, setup, others, choose)
  some = functools.cache(lambda: of_curve(parts()))
  return Experiment(
    f"{name}-{of}".replace(" ", "_"),
    learner,
    optimizer,
    lambda seed: _drawn(batches, parts().mixed or parts().unlabeled, setup, seed),
    (frozen,) if scores is None else (scores, frozen),
    lambda params, state: accuracy_of_neighbors(*known_and_asked(learner.embed, params, state, some())),
    figures=lambda *to: [figures.embedding_map(*to[:2], parts()), *draw(*to[:2], parts())],
    notes=lambda trained, records: [("Data", figures.sizes(parts()))],
    title=f"{name} on {of}",
    check=lambda shapes, batch: few_shot_tests(setup.data, setup.probing, parts()),  # raises if data are too few
    choose=None if choose is None else lambda states: choose(states, parts()),
    preprocessing=preprocessing,
  )


def _drawn(batches: Draw, source: Any, setup: Setup, seed: int) -> Batches:
  size = setup.outer.batch_size
  number = sum(len(one.images) for one in source.sources) if isinstance(source, Mixture) else len(source.images)
  if size > number:
    given = f"{size} of {number} images"
    raise ValueError(f"expected a --batch-size of at most all images, got {given}")
  return batches(source, setup, seed)


def check_images(init: Callable, size: int):
  """Checks before data are loaded, without compiling, that images of a size fit a network.

  Raises:
    ValueError: as `init`, of a learner or a network.
  """
  jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))


def _of_images(encoder: Network | Mapping[str, Network]) -> Network:
  return encoder if isinstance(encoder, Network) else next(iter(encoder.values()))
