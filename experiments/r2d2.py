"""R2-D2 (arXiv:1805.08136) on few-shot classification: a closed-form ridge-regression head on learned features.

python -m experiments.r2d2 --data omniglot --budget cpu     # 5-way 1-shot 98.0, 8 minutes on 2 CPU cores
"""

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment
from experiments.few_shot_scores import under_both
from experiments.runs import RUN, RunFlags
from metajax.learners import Policy, r2d2
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Normalisation

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  "paper": {"setting": Setting()},
  "cpu": {
    "setting": Setting(
      ways=20, queries=5, tasks=2, steps=7000, rate=2e-3, decay="cosine", test=TESTS, validate_every=500
    )
  },
}


def method(
  policy: Policy = "transductive",
  strength: float = 1.0,
  filters: int = 64,
  normalisation: Normalisation = "batch",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """R2-D2 on few-shot classification.

  Args:
    policy: what batch norm normalises queries with in training; it is tested under both policies.
    strength: of the ridge penalty, where it starts.
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  encoder = conv4(filters, downsample="stride", normalisation=normalisation)
  learner = lambda adapt, policy: r2d2(encoder, policy=policy, strength=strength)
  return Method("r2d2", learner(None, policy), under_both("r2d2", learner, None, 0, policy, normalisation))


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
