"""Prototypical networks (arXiv:1703.05175) on few-shot classification.

python -m experiments.prototypical --data omniglot --budget cpu     # 5-way 1-shot 97.8, 12 minutes on 2 CPU cores
python -m experiments.prototypical --data omniglot --budget cpu --centre --distort --steps 2500 \
  --test 5w1s 5w5s 20w1s     # 98.7, 99.7 and 96.3, 12 minutes on 1 CPU core
python -m experiments.prototypical --data omniglot --split vinyals --budget cpu --steps 6000 \
  --validate-every 1000     # 98.2, 30 minutes on 1 CPU core
"""

from experiments import command_line
from experiments.few_shot import Comparison, Method, Setting, experiment
from experiments.few_shot_scores import Tested
from experiments.heads import convolution_for, in_the_middle
from experiments.runs import RUN, RunFlags
from metajax.learners import augmented, prototypical
from metajax.learners.prototypical import Distance
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Downsample
from metajax.views.image import affine

SCALE = 10.0  # of cosines
TESTS = ("5w1s", "5w5s", "20w1s", "20w5s")
BUDGETS = {
  "paper": {"setting": Setting(ways=60, queries=5, tasks=1, steps=20000, decay="halving", test=TESTS)},
  "cpu": {
    "setting": Setting(
      ways=30, queries=5, tasks=1, steps=2000, rate=2e-3, decay="cosine", test=TESTS, validate_every=500
    )
  },
  "demo": {
    "setting": Setting(
      ways=20, queries=5, tasks=1, steps=400, rate=2e-3, decay="cosine", test=("5w1s",), validate_every=100
    )
  },
}


def method(
  distance: Distance = "euclidean",
  distort: bool = False,
  centre: bool = False,
  filters: int = 64,
  downsample: Downsample = "max_pool",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Prototypical networks on few-shot classification.

  Args:
    distance: squared Euclidean, or cosine.
    distort: train on affine distortions.
    centre: bring each character to the middle and to one size before the network sees it.
    filters: of each of the network's four layers.
    downsample: how each layer halves the picture: max-pooling as in the paper, or the convolution's stride.
    setting: flags that every few-shot experiment has.
    run: flags that every experiment has.
  """
  encoder = conv4(filters, downsample=downsample, convolution=convolution_for(setting.tasks))
  learner = prototypical(in_the_middle(encoder) if centre else encoder, distance=distance, scale=SCALE)
  trained = augmented(learner, affine()) if distort else learner
  name = "prototypical" + ", cosine" * (distance == "cosine") + ", distorted" * distort + ", centred" * centre
  if distance == "euclidean":
    compares = Comparison("squared distance", lambda logits: -logits, "smallest")
  else:
    compares = Comparison("cosine", lambda logits: logits / SCALE)
  return Method("prototypical", trained, (Tested(name, learner, "running statistics"),), compares=compares)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
