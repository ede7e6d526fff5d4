"""MAML++ (arXiv:1810.09502) on few-shot classification: MAML with per-step learning rates, normalization and losses.

python -m experiments.maml_plus_plus --data omniglot --preset cpu     # 5-way 1-shot 95.9, 20 minutes on 1 CPU core
"""

from typing import Annotated, Any, NamedTuple

from experiments.families import few_shot as fs
from metajax.experiment.bounds import Bounds, NotNegative, Positive, Steps
from metajax.experiment.former_flags import also
from metajax.learners import maml_plus_plus


class Config(NamedTuple):
  """Trains and evaluates MAML++ on few-shot classification."""

  inner_learning_rate: Annotated[Positive, *also("--inner-rate")] = 0.1
  """Initial inner-loop learning rate of every array and step, on the mean loss over the support set."""
  inner_steps: Steps = 5
  """Inner-loop steps in training."""
  test_inner_steps: Annotated[int | None, Bounds(1, 10**5)] = None
  """Inner-loop steps in validation and test, by default as in training; further steps reuse the last learning rates."""
  multi_step_until: NotNegative = 5000
  """Training steps of the multi-step loss, in which the weights of all inner steps but the last one decay."""
  first_order_until: NotNegative = 0
  """Training steps with first-order gradients, before second-order gradients."""
  tries: fs.TrySteps = fs.TrySteps()
  network: fs.AdaptedHead = fs.AdaptedHead()
  setup: fs.Setup = fs.Setup()


_NETWORK = fs.AdaptedHead(downsample="max_pool", pool="flatten")


def _paper(ways: int) -> fs.Setup:
  return fs.Setup(
    task=fs.Task(ways=ways, queries=1, meta_batch_size=8),
    outer=fs.Outer(schedule="cosine"),
    training=fs.Training(50000),
    tests=fs.Tests(test_queries=1, test_tasks=600),
  )


PRESETS = {
  # omniglot_maml++-omniglot_1_8_0.1_64_5_0.json of its code, and that of 20 ways: 100 epochs of 500 steps, 10 of them
  # with the multi-step loss, none with first-order gradients; one query a class. The paper tests an ensemble of five.
  "paper": Config(network=_NETWORK, setup=_paper(5)),
  "paper_20way": Config(network=_NETWORK, setup=_paper(20)),
  "cpu": Config(
    inner_learning_rate=0.5,
    inner_steps=3,
    multi_step_until=500,
    network=fs.AdaptedHead(head="repeated"),
    setup=fs.ON_CPU._replace(training=fs.Training(2400, 500)),
  ),
}


def build(config: Config) -> fs.Experiment:
  """MAML++, with a learned learning rate per array and inner step."""
  first_order, steps = config.first_order_until, config.setup.training.steps
  if first_order >= steps:
    raise ValueError(f"expected --first-order-until below the {steps} --steps, got {first_order}")
  encoder, _, network, init_head = fs.with_linear_head(config.network, config.setup)
  annealed: dict[str, Any] = {"multi_step_until": config.multi_step_until, "first_order_until": first_order}

  def learner(steps, query_norm):
    return maml_plus_plus(
      network,
      steps,
      learning_rate=config.inner_learning_rate,
      encoder=encoder,
      query_norm=query_norm,
      **annealed,
      **init_head,
    )

  steps = config.inner_steps, config.test_inner_steps
  return fs.adapted_experiment(config.setup, config.network, "maml_plus_plus", learner, *steps, tries=config.tries)


if __name__ == "__main__":
  fs.main(build, PRESETS)
