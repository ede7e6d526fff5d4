"""CAVIA (arXiv:1810.03642) on few-shot classification: the inner loop adapts a context vector alone.

python -m experiments.cavia --data omniglot --budget cpu     # 5-way 1-shot 95.1, 20 minutes on 1 CPU core
"""

import optax

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment
from experiments.few_shot_scores import under_both
from experiments.runs import RUN, RunFlags
from metajax import gradient_steps
from metajax.compose import first_ways, linear, modulated, with_head
from metajax.learners import Policy, cavia
from metajax.networks import conv_blocks
from metajax.networks.linen.conv4 import Normalisation

TESTS = ("5w1s", "5w5s")  # a network serves as many ways as it was trained at
BUDGETS = {
  # The paper's network for mini-ImageNet; it has no Omniglot.
  "paper": {"setting": Setting(tasks=4), "filters": 128},
  "cpu": {
    "setting": Setting(queries=5, tasks=16, steps=5500, rate=2e-3, decay="cosine", test=TESTS, validate_every=500),
    "inner_rate": 10.0,
  },
}


def method(
  context: int = 100,
  inner_rate: float = 1.0,
  inner_steps: int = 2,
  test_inner_steps: int = 2,
  policy: Policy = "transductive",
  filters: int = 64,
  normalisation: Normalisation = "batch",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """CAVIA on few-shot classification, at as many ways as in training or fewer.

  Args:
    context: how many numbers a task is told by; they scale and shift the channels of the third layer.
    inner_rate: of the context's gradient descent, on the mean loss.
    inner_steps: of the inner loop in training.
    test_inner_steps: of the inner loop in validation and test.
    policy: what batch norm normalises queries with in training; it is tested under both policies.
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  layers = {"downsample": "stride", "normalisation": normalisation}
  encoder = modulated(conv_blocks(3, filters, pool="none", **layers), conv_blocks(1, filters, pool="mean", **layers))
  network = with_head(encoder, linear(setting.ways))

  adapt = lambda steps: gradient_steps(optax.sgd(inner_rate), steps)
  learner = lambda adapt, policy: cavia(network, context, adapt, encoder=encoder, policy=policy, start=first_ways)
  tested = under_both("cavia", learner, adapt, test_inner_steps, policy, normalisation)
  return Method("cavia", learner(adapt(inner_steps), policy), tested)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
