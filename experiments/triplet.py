"""Triplet networks (arXiv:1503.03832) on few-shot classification.

python -m experiments.triplet --data omniglot --budget cpu     # 5-way 1-shot 98.2, 13 minutes on 1 CPU core
"""

from experiments import command_line
from experiments.few_shot import Comparison, Method, Setting, experiment
from experiments.few_shot_scores import Tested
from experiments.runs import RUN, RunFlags
from metajax.data import balanced, triplets
from metajax.learners import augmented, triplet
from metajax.learners.triplet import Negatives
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Downsample
from metajax.predictors import nearest_neighbour
from metajax.views.image import affine

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  "paper": {"setting": Setting(test=TESTS)},
  "cpu": {"setting": Setting(steps=3000, rate=2e-3, decay="cosine", test=TESTS, validate_every=500)},
}


def method(
  classes: int = 32,
  each: int = 4,
  negatives: Negatives = "semi_hard",
  margin: float = 0.2,
  soft_margin: bool = False,
  distort: bool = False,
  filters: int = 64,
  downsample: Downsample = "max_pool",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Triplet networks on few-shot classification.

  Args:
    classes: in a step.
    each: pictures of each class in a step; with --negatives given, classes * each triplets are drawn.
    negatives: given, hard or semi_hard.
    margin: of the loss.
    soft_margin: log(1 + exp(...)) in place of a margin.
    distort: train on affine distortions.
    filters: of each of the network's four layers.
    downsample: how each layer halves the picture.
    setting: flags that every few-shot experiment has; --ways, --shots, --queries and --tasks are not used.
    run: flags that every experiment has.
  """
  network, how = conv4(filters, downsample=downsample, convolution="native"), {"negatives": negatives}
  how["margin"] = "soft" if soft_margin else margin
  learner = triplet(network, **how)
  trained = augmented(learner, affine()) if distort else learner
  neighbour = triplet(network, predictor=nearest_neighbour, **how)
  named = lambda name, learner: Tested(name + ", distorted" * distort, learner, "running statistics")
  tested = (named("triplet", learner), named("triplet, nearest neighbour", neighbour))

  def batches(source, s, seed):
    if negatives == "given":
      return triplets(source, batch_size=classes * each, seed=seed, within_groups=s.within_groups)
    return balanced(source, classes=classes, each=each, seed=seed, within_groups=s.within_groups)

  compares = Comparison("squared distance", lambda logits: -logits, "smallest")
  return Method("triplet", trained, tested, batches=batches, compares=compares)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
