"""Relation networks (arXiv:1711.06025) on few-shot classification.

python -m experiments.relation --data omniglot --budget cpu     # 5-way 1-shot 98.2, 14 minutes on 1 CPU core
"""

from experiments import command_line
from experiments.few_shot import Comparison, Method, Setting, experiment
from experiments.few_shot_scores import Tested
from experiments.heads import convolution_for
from experiments.runs import RUN, RunFlags
from metajax.learners import augmented, relation
from metajax.networks import conv4, relation_module
from metajax.views.image import affine

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  "paper": {"setting": Setting(queries=19, tasks=1, steps=500000, test=TESTS, validate_every=5000)},
  "cpu": {
    "setting": Setting(
      ways=10, queries=5, tasks=1, steps=6000, rate=2e-3, decay="cosine", test=TESTS, validate_every=1000
    )
  },
}


def method(
  distort: bool = False,
  filters: int = 64,
  hidden: int = 8,
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Relation networks on few-shot classification.

  Args:
    distort: train on affine distortions.
    filters: of each layer of the embedding and of the relation module.
    hidden: units of the relation module's last layer.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  convolution = convolution_for(setting.tasks)
  learner = relation(
    conv4(filters, pool="none", halvings=2, convolution=convolution),
    relation_module(filters, hidden, convolution=convolution),
  )
  trained = augmented(learner, affine()) if distort else learner
  compares = Comparison("relation score", lambda scores: scores)
  tested = (Tested("relation" + ", distorted" * distort, learner, "running statistics"),)
  return Method("relation", trained, tested, compares=compares)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
