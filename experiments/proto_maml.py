"""Proto-MAML (arXiv:1903.03096) on few-shot classification: MAML whose head starts at the classes' prototypes.

python -m experiments.proto_maml --data omniglot --budget cpu     # 5-way 96.3, 20-way 87.3; 5 minutes on 1 core
"""

import optax

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment
from experiments.few_shot_scores import under_both
from experiments.runs import RUN, RunFlags
from metajax import gradient_steps
from metajax.adapt import Gradient
from metajax.learners import Policy, proto_maml
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Normalisation

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  "paper": {"setting": Setting(tasks=16)},
  "cpu": {
    "setting": Setting(queries=5, tasks=16, steps=1500, rate=2e-3, decay="cosine", test=TESTS, validate_every=500),
  },
}


def method(
  inner_rate: float = 0.1,
  inner_steps: int = 1,
  test_inner_steps: int = 1,
  gradient: Gradient = "mixed",
  policy: Policy = "transductive",
  filters: int = 64,
  normalisation: Normalisation = "batch",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Proto-MAML on few-shot classification, at any number of ways.

  Args:
    inner_rate: of the inner loop's gradient descent, on the mean loss.
    inner_steps: of the inner loop in training.
    test_inner_steps: of the inner loop in validation and test.
    gradient: "mixed" and "reverse" are exact, "first_order" leaves out second derivatives.
    policy: what batch norm normalises queries with in training; it is tested under both policies.
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  encoder = conv4(filters, downsample="stride", pool="mean", normalisation=normalisation)

  adapt = lambda steps: gradient_steps(optax.sgd(inner_rate), steps, gradient=gradient)
  learner = lambda adapt, policy: proto_maml(encoder, adapt, policy=policy)
  tested = under_both("proto_maml", learner, adapt, test_inner_steps, policy, normalisation)
  return Method("proto_maml", learner(adapt(inner_steps), policy), tested)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
