"""Prototypical networks (arXiv:1703.05175) on few-shot classification.

python -m experiments.prototypical --data omniglot --preset cpu     # 5-way 1-shot 97.8, 12 minutes on 2 CPU cores
python -m experiments.prototypical --data omniglot --preset cpu --center --distort --steps 2500 \
  --test 5w1s 5w5s 20w1s     # 98.7, 99.7 and 96.3, 12 minutes on 1 CPU core
python -m experiments.prototypical --data omniglot --split vinyals --preset cpu --steps 6000 \
  --validate-every 1000     # 98.2, 30 minutes on 1 CPU core
"""

from typing import NamedTuple

from experiments.families import few_shot as fs
from metajax.learners import prototypical
from metajax.learners.prototypical import Distance

SCALE = 10.0  # of cosines
ALL = ("5w1s", "5w5s", "20w1s", "20w5s")


class Config(NamedTuple):
  """Trains and evaluates prototypical networks on few-shot classification."""

  distance: Distance = "euclidean"
  """Distance between queries and prototypes: squared Euclidean or cosine."""
  network: fs.Embedding = fs.Embedding()
  setup: fs.Setup = fs.Setup()


PRESETS = {
  "paper": Config(
    setup=fs.Setup(
      task=fs.Task(ways=60, queries=5, meta_batch_size=1),
      outer=fs.Outer(schedule="halving"),
      training=fs.Training(20000),
      tests=fs.Tests(ALL),
    )
  ),
  "cpu": Config(
    setup=fs.ON_CPU._replace(
      task=fs.Task(ways=30, queries=5, meta_batch_size=1), training=fs.Training(2000, 500), tests=fs.Tests(ALL)
    )
  ),
  "demo": Config(
    setup=fs.ON_CPU._replace(
      task=fs.Task(ways=20, queries=3, meta_batch_size=1), training=fs.Training(400, 100), tests=fs.Tests(("5w1s",))
    )
  ),
}


def build(config: Config) -> fs.Experiment:
  """Prototypical networks."""
  encoder = fs.embedding_network(config.network, config.setup, config.setup.task.meta_batch_size)
  learner = prototypical(encoder, distance=config.distance, scale=SCALE)
  variant = ("cosine",) * (config.distance == "cosine")
  if config.distance == "euclidean":
    compares = fs.PairScore("squared distance", lambda logits: -logits, "smallest")
  else:
    compares = fs.PairScore("cosine", lambda logits: logits / SCALE)
  modes = [fs.EvalMode("prototypical", learner, "running statistics", variant=variant)]
  return fs.few_shot_experiment(
    config.setup, "prototypical", learner, modes, compares=compares, encoder=fs.name_of(*config.network)
  )


if __name__ == "__main__":
  fs.main(build, PRESETS)
