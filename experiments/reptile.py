"""Reptile (arXiv:1803.02999) on few-shot classification.

python -m experiments.reptile --data omniglot --budget cpu     # 5-way 1-shot 85.8, 14 minutes on 2 CPU cores
"""

import optax

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment, schedule
from experiments.few_shot_scores import under_both
from experiments.heads import Head, linear_head
from experiments.runs import RUN, RunFlags
from metajax import gradient_steps
from metajax.compose import with_head
from metajax.learners import Policy, reptile
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Normalisation

TESTS = ("5w1s", "5w5s", "20w1s")
# The paper's 10 training shots: a task's support and query are both learned from.
COMMON = {"shots": 5, "queries": 5, "rate": 1.0, "decay": "linear"}
BUDGETS = {
  "paper": {"setting": Setting(**COMMON, tasks=5, steps=100000, validate_every=5000)},
  "cpu": {
    "setting": Setting(**COMMON, tasks=5, steps=6000, test=TESTS, validate_every=1000),
    "head": "zeros",
    # Three times the paper's rate and twice its steps: a sixteenth of its training.
    "inner_rate": 3e-3,
    "inner_steps": 10,
  },
}


def method(
  inner_rate: float = 1e-3,
  inner_steps: int = 5,
  inner_batch: int = 10,
  test_inner_steps: int = 50,
  policy: Policy = "transductive",
  head: Head = "fixed",
  filters: int = 64,
  normalisation: Normalisation = "batch",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Reptile on few-shot classification; the outer optimizer is gradient descent with the setting's rate.

  Args:
    inner_rate: of the inner loop's Adam, which has no momentum.
    inner_steps: of the inner loop in training, each on a mini-batch.
    inner_batch: pictures of a mini-batch in training; at test a step sees the whole support set.
    test_inner_steps: of the inner loop in validation and test.
    policy: what batch norm normalises queries with; it is tested under both policies.
    head: for the ways of training alone ("fixed"), or for any: its outputs "repeated", or a start from "zeros".
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  encoder = conv4(filters, downsample="stride", pool="mean", normalisation=normalisation)
  outputs, start = linear_head(head, setting.ways)
  network = with_head(encoder, outputs)
  inner = optax.adam(inner_rate, b1=0)
  common = {"encoder": encoder} | start

  adapt = lambda steps: gradient_steps(inner, steps, gradient="first_order")
  tuned = lambda adapt, policy: reptile(network, adapt, policy=policy, **common)
  per_step = gradient_steps(inner, inner_steps, gradient="first_order", per_step=True)
  learner = reptile(network, per_step, minibatches=(inner_steps, inner_batch), policy=policy, **common)
  tested = under_both("reptile", tuned, adapt, test_inner_steps, policy, normalisation)
  return Method("reptile", learner, tested, lambda s: optax.sgd(schedule(s.rate, s.decay, s.steps)))


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
