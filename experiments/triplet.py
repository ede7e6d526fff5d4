"""Triplet networks (arXiv:1503.03832) on few-shot classification.

python -m experiments.triplet --data omniglot --preset cpu     # 5-way 1-shot 98.2, 13 minutes on 1 CPU core
"""

from functools import partial
from typing import Any, NamedTuple

from experiments.families import few_shot as fs
from metajax.data import balanced, triplets
from metajax.experiment.bounds import TwoOrMore, ZeroOrMore
from metajax.learners import triplet
from metajax.learners.triplet import Negatives
from metajax.predictors import nearest_neighbor


class Config(NamedTuple):
  """Trains and evaluates triplet networks; --ways, --shots, --queries and --meta-batch-size have no effect."""

  classes: TwoOrMore = 32
  """Classes per step."""
  each: TwoOrMore = 4
  """Images of each class per step; with --negatives given, classes x each triplets are drawn."""
  negatives: Negatives = "semi_hard"
  """Choice of negatives: given with the triplets, or the hard or semi-hard ones of a batch."""
  margin: ZeroOrMore = 0.2
  """Margin of the triplet loss."""
  soft_margin: bool = False
  """Use log(1 + exp(...)) instead of a margin in the triplet loss."""
  network: fs.Embedding = fs.Embedding()
  setup: fs.Setup = fs.Setup(tests=fs.TESTS)


PRESETS = {
  "paper": Config(),
  "cpu": Config(setup=fs.ON_CPU._replace(task=fs.Task(), training=fs.Training(3000, 500))),
}


def build(config: Config) -> fs.Experiment:
  """Triplet networks."""
  network = fs.embedding_network(config.network, config.setup)
  how: dict[str, Any] = {"negatives": config.negatives, "margin": "soft" if config.soft_margin else config.margin}
  learner = triplet(network, **how)
  neighbor = triplet(network, predictor=nearest_neighbor, **how)
  modes = [
    fs.EvalMode("triplet", learner, "running statistics"),
    fs.EvalMode("triplet", neighbor, "running statistics", variant=("nearest neighbor",)),
  ]
  compares = fs.PairScore("squared distance", lambda logits: -logits, "smallest")
  found = fs.few_shot_experiment(
    config.setup,
    "triplet",
    learner,
    modes,
    batches=partial(_batches, config),
    compares=compares,
    encoder=fs.name_of(*config.network),
  )
  return found if config.negatives == "given" else found._replace(accumulate="no")


def _batches(config: Config, source, seed):
  groups = config.setup.task.within_superclass
  if config.negatives == "given":
    return triplets(source, batch_size=config.classes * config.each, seed=seed, within_superclass=groups)
  classes, each = fs.fewer_classes(config.setup, source, config.classes, config.each, seed)
  return balanced(source, classes=classes, each=each, seed=seed, within_superclass=groups)


if __name__ == "__main__":
  fs.main(build, PRESETS)
