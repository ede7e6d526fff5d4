"""MAML++ (arXiv:1810.09502) on few-shot classification: MAML with rates, normalisation and losses for each step.

python -m experiments.maml_plus_plus --data omniglot --budget cpu     # 5-way 1-shot 95.9, 20 minutes on 1 CPU core
"""

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment
from experiments.few_shot_scores import under_both
from experiments.heads import Head, linear_head
from experiments.runs import RUN, RunFlags
from metajax.compose import with_head
from metajax.learners import Policy, maml_plus_plus
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Normalisation

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  # Of 150 epochs of 500 steps: 10 with the loss of all steps, 50 of first order.
  "paper": {"setting": Setting(tasks=16, steps=75000, decay="cosine")},
  "cpu": {
    "setting": Setting(queries=5, tasks=16, steps=2400, rate=2e-3, decay="cosine", test=TESTS, validate_every=500),
    "head": "repeated",
    "inner_rate": 0.5,
    "inner_steps": 3,
    "multi_step_until": 500,
    "first_order_until": 0,
  },
}


def method(
  inner_rate: float = 0.1,
  inner_steps: int = 5,
  test_inner_steps: int | None = None,
  multi_step_until: int = 5000,
  first_order_until: int = 25000,
  policy: Policy = "transductive",
  head: Head = "fixed",
  filters: int = 64,
  normalisation: Normalisation = "batch",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """MAML++ on few-shot classification.

  Args:
    inner_rate: that the rates of all arrays and steps start at, on the mean loss.
    inner_steps: of the inner loop in training.
    test_inner_steps: of the inner loop in validation and test, as in training by default; beyond those of training by
      the last one's rates.
    multi_step_until: training steps in which the loss after each inner step counts, less and less but for the last.
    first_order_until: training steps of first order, before second.
    policy: what batch norm normalises queries with in training; it is tested under both policies.
    head: for the ways of training alone ("fixed"), or for any: its outputs "repeated", or a start from "zeros".
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  if first_order_until >= setting.steps:
    raise ValueError(f"expected --first-order-until below the {setting.steps} --steps, got {first_order_until}")
  encoder = conv4(filters, downsample="stride", pool="mean", normalisation=normalisation)
  outputs, start = linear_head(head, setting.ways)
  network = with_head(encoder, outputs)
  annealed = {"multi_step_until": multi_step_until, "first_order_until": first_order_until}

  def learner(steps, policy):
    return maml_plus_plus(network, steps, rate=inner_rate, encoder=encoder, policy=policy, **annealed, **start)

  after = lambda _, policy: learner(test_inner_steps or inner_steps, policy)
  tested = under_both("maml_plus_plus", after, None, 0, policy, normalisation)
  return Method("maml_plus_plus", learner(inner_steps, policy), tested)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
