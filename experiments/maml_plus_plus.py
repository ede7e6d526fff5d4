"""MAML++ (arXiv:1810.09502) on few-shot classification: MAML with rates, normalization and losses for each step.

python -m experiments.maml_plus_plus --data omniglot --budget cpu     # 5-way 1-shot 95.9, 20 minutes on 1 CPU core
"""

from typing import Annotated, Any, NamedTuple

from experiments.families import few_shot as fs
from metajax.experiment.bounds import Bounds, NotNegative, Positive, Steps
from metajax.experiment.former_flags import also
from metajax.learners import maml_plus_plus


class Config(NamedTuple):
  """MAML++ on few-shot classification."""

  inner_learning_rate: Annotated[Positive, *also("--inner-rate")] = 0.1
  """Where the rates of all arrays and steps start, on the mean loss."""
  inner_steps: Steps = 5
  """Steps of the inner loop in training."""
  test_inner_steps: Annotated[int | None, Bounds(1, 10**5)] = None
  """Steps of the inner loop in validation and test, as in training by default; beyond those of training by the last
  one's rates."""
  multi_step_until: NotNegative = 5000
  """Training steps in which the loss after each inner step counts, less and less but for the last."""
  first_order_until: NotNegative = 25000
  """Training steps of first order, before second."""
  network: fs.AdaptedHead = fs.AdaptedHead()
  setup: fs.Setup = fs.Setup()


PRESETS = {
  # Of 150 epochs of 500 steps: 10 with the loss of all steps, 50 of first order.
  "paper": Config(
    setup=fs.Setup(task=fs.Task(meta_batch_size=16), outer=fs.Outer(schedule="cosine"), training=fs.Training(75000))
  ),
  "cpu": Config(
    inner_learning_rate=0.5,
    inner_steps=3,
    multi_step_until=500,
    first_order_until=0,
    network=fs.AdaptedHead(head="repeated"),
    setup=fs.ON_CPU._replace(training=fs.Training(2400, 500)),
  ),
}


def build(config: Config) -> fs.Experiment:
  """MAML++, whose rates are learned for each array and step."""
  first_order, steps = config.first_order_until, config.setup.training.steps
  if first_order >= steps:
    raise ValueError(f"expected --first-order-until below the {steps} --steps, got {first_order}")
  encoder, _, network, init_head = fs.with_linear_head(config.network, config.setup.task.ways)
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

  return fs.adapted_experiment(
    config.setup, config.network, "maml_plus_plus", learner, config.inner_steps, config.test_inner_steps
  )


if __name__ == "__main__":
  fs.main(build, PRESETS)
