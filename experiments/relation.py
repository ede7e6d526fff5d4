"""Relation networks (arXiv:1711.06025) on few-shot classification.

python -m experiments.relation --data omniglot --preset cpu     # 5-way 1-shot 98.2, 14 minutes on 1 CPU core
"""

from typing import NamedTuple

from experiments.families import few_shot as fs
from metajax.experiment.bounds import Width
from metajax.learners import relation
from metajax.networks import conv4, relation_module


class Config(NamedTuple):
  """Trains and evaluates relation networks on few-shot classification."""

  filters: Width = 64
  """Channels of each convolution layer, in the embedding and in the relation module."""
  hidden: Width = 8
  """Units of the hidden layer of the relation module."""
  setup: fs.Setup = fs.Setup()


PRESETS = {
  "paper": Config(
    setup=fs.Setup(task=fs.Task(queries=19, meta_batch_size=1), training=fs.Training(500000, 5000), tests=fs.TESTS)
  ),
  "cpu": Config(
    setup=fs.ON_CPU._replace(task=fs.Task(ways=10, queries=5, meta_batch_size=1), training=fs.Training(6000))
  ),
}


def build(config: Config) -> fs.Experiment:
  """Relation networks, which learn the comparison."""
  fs.refuse(config.setup.start, "as relation networks compare feature maps of their own network")
  convolution = fs.convolution_for(config.setup.task.meta_batch_size)
  embedding = conv4(config.filters, pool="none", num_downsamples=2, convolution=convolution)
  learner = relation(embedding, relation_module(config.filters, config.hidden, convolution=convolution))
  modes = [fs.EvalMode("relation", learner, "running statistics")]
  compares = fs.PairScore("relation score", lambda scores: scores)
  return fs.few_shot_experiment(
    config.setup, "relation", learner, modes, compares=compares, encoder=fs.name_of(config.filters, "max_pool")
  )


if __name__ == "__main__":
  fs.main(build, PRESETS)
