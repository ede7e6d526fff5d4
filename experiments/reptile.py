"""Reptile (arXiv:1803.02999) on few-shot classification.

python -m experiments.reptile --data omniglot --preset cpu     # 5-way 1-shot 85.8, 14 minutes on 2 CPU cores
"""

from typing import Annotated, NamedTuple

import optax

from experiments.families import few_shot as fs
from metajax import gradient_steps
from metajax.experiment.bounds import Count, Positive, Steps
from metajax.experiment.former_flags import also
from metajax.learners import reptile

_SETUP = fs.Setup(
  task=fs.Task(shots=5, queries=5, meta_batch_size=5), outer=fs.Outer(1.0, "linear"), training=fs.Training(100000, 5000)
)
_PAPER = _SETUP._replace(
  task=fs.Task(shots=5, queries=10, meta_batch_size=10), tests=fs.Tests(("5w1s",), test_queries=1, test_tasks=10000)
)


class Config(NamedTuple):
  """Trains and evaluates Reptile on few-shot classification. The outer optimizer is gradient descent."""

  inner_learning_rate: Annotated[Positive, *also("--inner-rate")] = 1e-3
  """Learning rate of Adam (without momentum) in the inner loop."""
  inner_steps: Steps = 5
  """Inner-loop steps in training, each on a mini-batch."""
  inner_batch: Count = 10
  """Images per inner-loop mini-batch in training; test steps use the full support set."""
  test_inner_steps: Steps = 50
  """Inner-loop steps in validation and test."""
  tries: fs.Tries = fs.Tries()
  network: fs.AdaptedHead = fs.AdaptedHead()
  setup: fs.Setup = _SETUP


PRESETS = {
  # "Transductive 1-shot 5-way Omniglot" in the README of its code: 15 training shots (support and query sets are both
  # trained on), tested with one query a class. Its code keeps Adam's second moments from task to task; here each
  # task starts anew.
  "paper": Config(
    inner_steps=3, inner_batch=25, test_inner_steps=5, network=fs.AdaptedHead(pool="flatten"), setup=_PAPER
  ),
  "cpu": Config(
    inner_learning_rate=3e-3,  # three times the paper's and twice its inner steps, for a sixteenth of its training
    inner_steps=10,
    network=fs.AdaptedHead(head="zeros"),
    setup=_SETUP._replace(training=fs.Training(6000), tests=fs.TESTS),
  ),
}


def build(config: Config) -> fs.Experiment:
  """Reptile, a first-order method."""
  encoder, _, network, init_head = fs.with_linear_head(config.network, config.setup)

  def adapt(steps, rate, per_step=False):
    inner = optax.adam(rate or config.inner_learning_rate, b1=0)
    steps_of_inner = gradient_steps(inner, steps, gradient="first_order", per_step=per_step)
    return fs.adapted_params(config.setup.start, steps_of_inner)

  def learner(adapt, query_norm, minibatches=None):
    return reptile(network, adapt, minibatches=minibatches, query_norm=query_norm, encoder=encoder, **init_head)

  on_minibatches = adapt(config.inner_steps, None, per_step=True)
  trained = learner(on_minibatches, config.network.query_norm, (config.inner_steps, config.inner_batch))
  return fs.adapted_experiment(
    config.setup,
    config.network,
    "reptile",
    learner,
    config.test_inner_steps,
    adapt=adapt,
    tries=config.tries,
    curve=True,
    trained=trained,
    optimizer=optax.sgd(fs.schedule(config.setup)),
  )


if __name__ == "__main__":
  fs.main(build, PRESETS)
