"""Meta-SGD (arXiv:1707.09835) on few-shot classification: MAML with a learned rate for each parameter.

python -m experiments.meta_sgd --data omniglot --budget cpu --steps 8000     # 5-way 1-shot 97.3, 20 minutes on 1 core
"""

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment
from experiments.few_shot_scores import under_both
from experiments.heads import Head, linear_head
from experiments.runs import RUN, RunFlags
from metajax.adapt import Gradient
from metajax.compose import with_head
from metajax.learners import Policy, meta_sgd
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Normalisation

BUDGETS = {
  "paper": {"setting": Setting()},
  "cpu": {
    "setting": Setting(queries=5, tasks=16, steps=11000, rate=2e-3, decay="cosine", test=("5w1s", "5w5s", "20w1s")),
    "head": "repeated",
  },
  "demo": {"setting": Setting(queries=5, tasks=16, steps=1000, rate=2e-3, decay="cosine", validate_every=250)},
}


def method(
  low_rate: float = 0.5,
  high_rate: float = 2.0,
  inner_steps: int = 1,
  test_inner_steps: int | None = None,
  gradient: Gradient = "mixed",
  policy: Policy = "transductive",
  head: Head = "fixed",
  filters: int = 64,
  normalisation: Normalisation = "batch",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Meta-SGD on few-shot classification.

  Args:
    low_rate: that the rates of the inner loop start at, on the mean loss: drawn from it to the high one. (The paper's
      0.005 to 0.1 are of another loss and network.)
    high_rate: that the rates of the inner loop start at.
    inner_steps: of the inner loop in training.
    test_inner_steps: of the inner loop in validation and test; as in training by default.
    gradient: "mixed" and "reverse" are exact, "first_order" leaves out second derivatives.
    policy: what batch norm normalises queries with in training; it is tested under both policies.
    head: for the ways of training alone ("fixed"), or for any: its outputs "repeated", or a start from "zeros".
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  encoder = conv4(filters, downsample="stride", pool="mean", normalisation=normalisation)
  outputs, start = linear_head(head, setting.ways)
  network, rates = with_head(encoder, outputs), {"rate": (low_rate, high_rate), "gradient": gradient}
  learner = lambda steps, policy: meta_sgd(network, steps, encoder=encoder, policy=policy, **rates, **start)
  after = lambda _, policy: learner(test_inner_steps or inner_steps, policy)
  tested = under_both("meta_sgd", after, None, 0, policy, normalisation)
  return Method("meta_sgd", learner(inner_steps, policy), tested)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
