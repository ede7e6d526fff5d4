"""Supervised pre-training on all base classes, then transfer (arXiv:1904.04232): the baseline of few-shot learning.

python -m experiments.supervised --data omniglot --budget cpu     # 5-way 1-shot 91.4, 12 minutes on 2 CPU cores
"""

from functools import partial

import optax

from experiments import command_line
from experiments.few_shot import Method, Setting, experiment
from experiments.few_shot_scores import Tested
from experiments.runs import RUN, RunFlags
from metajax import gradient_steps
from metajax.compose import cosine
from metajax.data import examples
from metajax.learners import augmented, supervised
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Normalisation
from metajax.predictors import adapted_head, fine_tuned, nearest_centroid, normalised, perceptron_head
from metajax.views.image import affine

TESTS = ("5w1s", "5w5s", "20w1s")
BUDGETS = {
  "paper": {"setting": Setting(steps=60000, test=TESTS)},
  "cpu": {"setting": Setting(steps=10000, decay="cosine", test=TESTS, validate_every=1000)},
}


def method(
  batch_size: int = 128,
  head_rate: float = 0.01,
  head_steps: int = 100,
  tune_rate: float = 1e-3,
  tune_steps: int = 20,
  hidden: int = 64,
  distort: bool = False,
  filters: int = 64,
  normalisation: Normalisation = "batch",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """Pre-training on all base classes, and six ways to meet a new task with what it has learned.

  Args:
    batch_size: pictures in a step.
    head_rate: of Adam, for heads on frozen features.
    head_steps: of Adam, for heads on frozen features.
    tune_rate: of Adam, where everything is fine-tuned.
    tune_steps: of Adam, where everything is fine-tuned.
    hidden: units of the perceptron's layer.
    distort: train on affine distortions.
    filters: of each of the network's four layers.
    normalisation: in the network's layers.
    setting: flags that every few-shot experiment has; --ways, --shots, --queries and --tasks are not used.
    run: flags that every experiment has.
  """
  encoder = conv4(filters, downsample="stride", normalisation=normalisation)
  steps_of_head = gradient_steps(optax.adam(head_rate), head_steps, gradient="first_order")
  steps_of_all = gradient_steps(optax.adam(tune_rate), tune_steps, gradient="first_order")
  predictors = {
    "nearest centroid": lambda embed: nearest_centroid(normalised(embed)),
    "fine-tuned head": partial(adapted_head, adapt=steps_of_head),
    "cosine head": partial(adapted_head, adapt=steps_of_head, head=cosine),
    "linear perceptron": lambda embed: perceptron_head(normalised(embed), steps_of_head),
    "perceptron": lambda embed: perceptron_head(normalised(embed), steps_of_head, hidden),
    "fine-tuned": partial(fine_tuned, adapt=steps_of_all),
  }
  policy = "running statistics" if normalisation == "batch" else "none"
  tested = tuple(
    Tested(f"supervised, {name}" + ", distorted" * distort, supervised(encoder, predictor), policy)
    for name, predictor in predictors.items()
  )
  trained = augmented(tested[0].learner, affine()) if distort else tested[0].learner
  batches = lambda source, s, seed: examples(source, batch_size=batch_size, seed=seed)
  return Method("supervised", trained, tested, batches=batches)


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
