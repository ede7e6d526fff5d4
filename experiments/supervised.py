"""Supervised pretraining on all base classes, then transfer (arXiv:1904.04232): the baseline of few-shot learning.

python -m experiments.supervised --data omniglot --preset cpu     # 5-way 1-shot 91.4, 12 minutes on 2 CPU cores
"""

from functools import partial
from typing import Annotated, NamedTuple

import optax

from experiments.families import few_shot as fs
from metajax import gradient_steps
from metajax.compose import cosine
from metajax.data import train_batches
from metajax.experiment.bounds import Count, Positive, Steps, Width
from metajax.experiment.former_flags import also
from metajax.learners import supervised
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Downsample, Normalization
from metajax.predictors import adapted_head, fine_tuned, nearest_centroid, normalized, perceptron_head


class Config(NamedTuple):
  """Pretrains on base classes, tests six predictors; --ways, --shots, --queries, --meta-batch-size have no effect."""

  batch_size: Count = 128
  """Images per step."""
  head_learning_rate: Annotated[Positive, *also("--head-rate")] = 0.01
  """Learning rate of Adam for heads on frozen features."""
  head_steps: Steps = 100
  """Adam steps for heads on frozen features."""
  tune_learning_rate: Annotated[Positive, *also("--tune-rate")] = 1e-3
  """Learning rate of Adam for fine-tuning the full network."""
  tune_steps: Steps = 20
  """Adam steps for fine-tuning the full network."""
  hidden: Width = 64
  """Hidden units of the perceptron head."""
  filters: Width = 64
  """Channels of each convolution layer."""
  downsample: Downsample = "stride"
  """Downsampling by 2 in each convolution layer: a stride, or max-pooling."""
  normalization: Annotated[Normalization, *also("--normalisation")] = "batch"
  """Normalization in each convolution layer."""
  setup: fs.Setup = fs.Setup(tests=fs.TESTS)


PRESETS = {
  "paper": Config(),
  "cpu": Config(setup=fs.Setup(outer=fs.Outer(schedule="cosine"), training=fs.Training(10000), tests=fs.TESTS)),
}


def build(config: Config) -> fs.Experiment:
  """Supervised pretraining and transfer."""
  own = conv4(config.filters, downsample=config.downsample, normalization=config.normalization)
  encoder = fs.encoder_for(config.setup.start, own)
  query_norm = "running statistics" if config.normalization == "batch" else "none"
  modes = [
    fs.EvalMode(
      "supervised",
      supervised(encoder, predictor),
      query_norm,
      None,
      (name,),
    )
    for name, predictor in _predictors(config).items()
  ]

  def batches(source, seed):
    return train_batches(source, batch_size=config.batch_size, seed=seed)

  return fs.few_shot_experiment(
    config.setup,
    "supervised",
    modes[0].learner,
    modes,
    batches=batches,
    encoder=fs.name_of(config.filters, config.downsample),
  )


def _predictors(config: Config) -> dict:
  of_head = gradient_steps(optax.adam(config.head_learning_rate), config.head_steps, gradient="first_order")
  of_all = gradient_steps(optax.adam(config.tune_learning_rate), config.tune_steps, gradient="first_order")
  return {
    "nearest centroid": lambda embed: nearest_centroid(normalized(embed)),
    "fine-tuned head": partial(adapted_head, adapt=of_head),
    "cosine head": partial(adapted_head, adapt=of_head, head=cosine),
    "linear perceptron": lambda embed: perceptron_head(normalized(embed), of_head),
    "perceptron": lambda embed: perceptron_head(normalized(embed), of_head, config.hidden),
    "fine-tuned": partial(fine_tuned, adapt=of_all),
  }


if __name__ == "__main__":
  fs.main(build, PRESETS)
