"""ANIL (arXiv:1909.09157) on few-shot classification: MAML whose inner loop adapts the head alone.

python -m experiments.anil --data omniglot --budget cpu     # 5-way 1-shot 93.4, 11 minutes on 2 CPU cores
"""

import optax

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment
from experiments.few_shot_scores import under_both
from experiments.heads import Head, linear_head
from experiments.runs import RUN, RunFlags
from metajax import gradient_steps
from metajax.learners import Policy, anil
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Normalisation

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  "paper": {"setting": Setting()},
  "cpu": {
    "setting": Setting(queries=5, tasks=16, steps=6000, rate=2e-3, decay="cosine", test=TESTS, validate_every=500),
    "head": "zeros",
  },
}


def method(
  inner_rate: float = 0.5,
  inner_steps: int = 5,
  test_inner_steps: int = 10,
  policy: Policy = "transductive",
  head: Head = "fixed",
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
    head: for the ways of training alone ("fixed"), or for any: its outputs "repeated", or a start from "zeros".
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  encoder = conv4(filters, downsample="stride", pool="mean", normalisation=normalisation)
  outputs, start = linear_head(head, setting.ways)

  adapt = lambda steps: gradient_steps(optax.sgd(inner_rate), steps)
  learner = lambda adapt, policy: anil(encoder, outputs, adapt, policy=policy, **start)
  tested = under_both("anil", learner, adapt, test_inner_steps, policy, normalisation)
  return Method("anil", learner(adapt(inner_steps), policy), tested)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
