"""MAML (arXiv:1703.03400) on few-shot classification.

python -m experiments.maml --data omniglot --budget cpu     # 5-way 1-shot 97.3, 29 minutes on 2 CPU cores
"""

import optax

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment
from experiments.runs import RUN, RunFlags
from metajax import gradient_steps
from metajax.adapt import Gradient
from metajax.compose import linear, with_head
from metajax.learners import maml
from metajax.networks import conv4

BUDGETS = {
  # The paper's 0.4 is the rate on a loss summed over 5 classes; ours is the mean.
  "paper": {"setting": Setting()},
  "cpu": {"setting": Setting(queries=5, tasks=16, steps=12000, rate=2e-3, decay="cosine")},
  "demo": {"setting": Setting(queries=5, tasks=16, steps=1000, rate=2e-3, decay="cosine", validate_every=250)},
}


def method(
  inner_rate: float = 2.0,
  inner_steps: int = 1,
  test_inner_steps: int = 3,
  gradient: Gradient = "mixed",
  filters: int = 64,
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """MAML on few-shot classification.

  Args:
    inner_rate: of the inner loop's gradient descent, on the mean loss.
    inner_steps: of the inner loop in training.
    test_inner_steps: of the inner loop in validation and test.
    gradient: "mixed" and "reverse" are exact, "first_order" leaves out second derivatives.
    filters: of each of the network's four layers.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  encoder = conv4(filters, downsample="stride", pool="mean")
  network = with_head(encoder, linear(setting.ways))
  learner, test_learner = (
    maml(network, gradient_steps(optax.sgd(inner_rate), steps, gradient=gradient), encoder=encoder)
    for steps in (inner_steps, test_inner_steps)
  )
  name = "first_order_maml" if gradient == "first_order" else "maml"
  return Method(name, learner, test_learner, "transductive")


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
