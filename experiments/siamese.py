"""Siamese networks (Koch et al. 2015), trained to verify pairs, on few-shot classification.

python -m experiments.siamese --data omniglot --preset cpu     # 5-way 1-shot 95.8, 16 minutes on 1 CPU core
"""

from functools import partial
from typing import Annotated, NamedTuple

import jax.numpy as jnp

from experiments.families import few_shot as fs
from metajax.augment.image import affine
from metajax.data import balanced, pairs, train_batches
from metajax.experiment.bounds import Count, TwoOrMore
from metajax.experiment.former_flags import also
from metajax.learners import siamese
from metajax.learners.siamese import Pairs


class Config(NamedTuple):
  """Trains and evaluates Siamese networks; --ways, --shots, --queries and --meta-batch-size have no effect."""

  batch_size: Count = 128
  """Pairs per step, or images per step with --pairs batch."""
  pairs: Annotated[Pairs, *also("--drawn")] = "given"
  """Training pairs: "given" draws pairs, half of them from one class; "batch" forms all pairs of a batch."""
  each: TwoOrMore = 4
  """Images of each class per step, with --pairs batch."""
  one_example: bool = False
  """Train without labels: a positive pair is two distortions of one image."""
  network: fs.Embedding = fs.Embedding()
  setup: fs.Setup = fs.Setup(tests=fs.TESTS)


PRESETS = {
  "paper": Config(),
  "cpu": Config(pairs="batch", setup=fs.ON_CPU._replace(task=fs.Task(), training=fs.Training(4500, 500))),
}


def build(config: Config) -> fs.Experiment:
  """Siamese networks, trained to verify pairs."""
  _check(config)
  network, in_batch = fs.embedding_network(config.network, config.setup), config.pairs == "batch"
  learner = siamese(network, pairs=config.pairs, augmentation=affine() if config.one_example else None)
  variant = ("pairs of a batch",) * in_batch + ("one example a class",) * config.one_example
  modes = [fs.EvalMode("siamese", learner, "running statistics", variant=variant)]
  compares = fs.PairScore("matching probability", jnp.exp)
  found = fs.few_shot_experiment(
    config.setup,
    "siamese",
    learner,
    modes,
    batches=partial(_batches, config),
    compares=compares,
    encoder=fs.name_of(*config.network),
  )
  return found._replace(accumulate="no") if in_batch else found


def _batches(config: Config, source, seed):
  size, groups = config.batch_size, config.setup.task.within_superclass
  if config.one_example:
    return train_batches(source, batch_size=size, seed=seed)
  if config.pairs == "batch":
    classes, each = fs.fewer_classes(config.setup, source, size // config.each, config.each, seed)
    return balanced(source, classes=classes, each=each, seed=seed, within_superclass=groups)
  return pairs(source, batch_size=size, seed=seed, within_superclass=groups)


def _check(config: Config):
  if config.one_example and (config.setup.images.augmentation != "none" or config.setup.task.within_superclass):
    raise ValueError(
      "expected --one-example without --augmentation and --within-superclass: it distorts images and uses no labels"
    )
  if config.pairs == "batch" and config.one_example:
    raise ValueError("expected --pairs batch without --one-example, which needs --pairs given")
  if config.pairs == "batch" and config.each > config.batch_size // 2:
    raise ValueError(f"expected --each to be at most half of the {config.batch_size} images, got {config.each}")


if __name__ == "__main__":
  fs.main(build, PRESETS)
