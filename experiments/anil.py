"""ANIL (arXiv:1909.09157) on few-shot classification: MAML whose inner loop adapts the head alone.

python -m experiments.anil --data omniglot --budget cpu
"""

import optax

from experiments import command_line
from experiments.few_shot import Method, Setting, check_rates, experiment
from experiments.few_shot_scores import under_both
from experiments.runs import RUN, RunFlags
from metajax import gradient_steps
from metajax.compose import linear, zeros_for_all_ways
from metajax.learners import Policy, anil
from metajax.networks import conv4
from metajax.networks.conv4 import Normalisation

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  "paper": {"setting": Setting()},
  "cpu": {
    "setting": Setting(queries=5, tasks=16, steps=6000, rate=2e-3, decay="cosine", test=TESTS, validate_every=500),
    "any_ways": True,
  },
}


def method(
  inner_rate: float = 0.5,
  inner_steps: int = 5,
  test_inner_steps: int = 10,
  policy: Policy = "transductive",
  any_ways: bool = False,
  filters: int = 64,
  normalisation: Normalisation = "batch",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """ANIL on few-shot classification.

  Args:
    inner_rate: of the head's gradient descent, on the mean loss.
    inner_steps: of the inner loop in training.
    test_inner_steps: of the inner loop in validation and test.
    policy: what batch norm normalises queries with in training; it is tested under both policies.
    any_ways: start the head from zeros, so that any number of ways can be tested.
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  check_rates(inner_rate=inner_rate)
  encoder = conv4(filters, downsample="stride", pool="mean", normalisation=normalisation)
  head, start = (linear(1), {"start": zeros_for_all_ways}) if any_ways else (linear(setting.ways), {})

  adapt = lambda steps: gradient_steps(optax.sgd(inner_rate), steps)
  learner = lambda adapt, policy: anil(encoder, head, adapt, policy=policy, **start)
  tested = under_both("anil", learner, adapt, test_inner_steps, policy, normalisation)
  return Method("anil", learner(adapt(inner_steps), policy), tested)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
