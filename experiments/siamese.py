"""Siamese networks (Koch et al. 2015), trained to verify pairs, on few-shot classification.

python -m experiments.siamese --data omniglot --budget cpu     # 5-way 1-shot 95.8, 16 minutes on 1 CPU core
"""

import jax.numpy as jnp

from experiments import command_line
from experiments.few_shot import Comparison, Method, Setting, experiment
from experiments.few_shot_scores import Tested
from experiments.heads import in_the_middle
from experiments.runs import RUN, RunFlags
from metajax.data import balanced, examples, pairs
from metajax.learners import augmented, siamese
from metajax.learners.siamese import Drawn
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Downsample
from metajax.views.image import affine

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  "paper": {"setting": Setting(test=TESTS)},
  "cpu": {
    "setting": Setting(steps=4500, rate=2e-3, decay="cosine", test=TESTS, validate_every=500),
    "drawn": "batch",
  },
}


def method(
  batch_size: int = 128,
  drawn: Drawn = "given",
  each: int = 4,
  one_example: bool = False,
  distort: bool = False,
  centre: bool = False,
  filters: int = 64,
  downsample: Downsample = "max_pool",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Siamese networks on few-shot classification.

  Args:
    batch_size: pairs in a step; with --drawn batch, pictures.
    drawn: pairs are given, half of one class, or all pairs of a batch are taken.
    each: with --drawn batch, pictures of each class in a step.
    one_example: without labels: a pair of one class is two distortions of one picture.
    distort: train on affine distortions.
    centre: bring each character to the middle and to one size before the network sees it.
    filters: of each of the network's four layers.
    downsample: how each layer halves the picture.
    setting: flags that every few-shot experiment has; --ways, --shots, --queries and --tasks are not used.
    run: flags that every experiment has.
  """
  if one_example and (distort or setting.within_groups):
    raise ValueError("expected --one-example without --distort and --within-groups: it distorts, and knows no labels")
  if drawn == "batch" and one_example:
    raise ValueError("expected --drawn batch without --one-example, which is of given pairs")
  if drawn == "batch" and each > batch_size // 2:
    raise ValueError(f"expected --each to be at most half of the {batch_size} pictures, got {each}")
  network = conv4(filters, downsample=downsample, convolution="native")
  network = in_the_middle(network) if centre else network
  learner = siamese(network, drawn=drawn, one_example=affine() if one_example else None)
  trained = augmented(learner, affine()) if distort else learner

  def batches(source, s, seed):
    if one_example:
      return examples(source, batch_size=batch_size, seed=seed)
    if drawn == "batch":
      return balanced(source, classes=batch_size // each, each=each, seed=seed, within_groups=s.within_groups)
    return pairs(source, batch_size=batch_size, seed=seed, within_groups=s.within_groups)

  name = (
    "siamese"
    + ", pairs of a batch" * (drawn == "batch")
    + ", one example a class" * one_example
    + ", distorted" * distort
    + ", centred" * centre
  )
  tested = (Tested(name, learner, "running statistics"),)
  return Method("siamese", trained, tested, batches=batches, compares=Comparison("matching probability", jnp.exp))


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
