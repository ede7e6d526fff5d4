"""MAML (arXiv:1703.03400) on few-shot classification; with --gradient first_order, first-order MAML.

python -m experiments.maml --data omniglot --preset cpu     # 5-way 1-shot 97.1, 23 minutes on 2 CPU cores
python -m experiments.maml --data omniglot --preset cpu --gradient first_order \
  --head zeros --inner-learning-rate 0.5 --inner-steps 3 --steps 5000     # 92.1, 12 minutes on 1 CPU core

With first-order gradients a learned initialization of the head drifts, as nothing constrains it: the loss before
adaptation grew from 1.6 to 25. A head initialized at zeros has no learned initialization.
"""

from typing import NamedTuple

from experiments.families import few_shot as fs
from metajax.adapt import Gradient
from metajax.learners import maml


class Config(NamedTuple):
  """Trains and evaluates MAML on few-shot classification."""

  inner: fs.InnerLoop = fs.InnerLoop(2.0, 1, 3)
  tries: fs.Tries = fs.Tries()
  gradient: Gradient = "mixed"
  """Meta-gradient: "mixed" and "reverse" are exact, "first_order" omits second derivatives."""
  network: fs.AdaptedHead = fs.AdaptedHead()
  setup: fs.Setup = fs.Setup()


_PAPER = fs.Setup(task=fs.Task(queries=1), tests=fs.Tests(test_queries=1))
PRESETS = {
  # Appendix A.1, and main.py of its code: 0.4 at 5 ways and 0.1 at 20 ways, on the loss summed over the classes. This
  # loss is a mean, so rates are as many times larger. Training and test have one query a class.
  "paper": Config(setup=_PAPER),
  "paper_20way": Config(
    inner=fs.InnerLoop(2.0, 5, 5),
    setup=_PAPER._replace(task=fs.Task(ways=20, queries=1, meta_batch_size=16)),
  ),
  "cpu": Config(network=fs.AdaptedHead(head="repeated"), setup=fs.ON_CPU._replace(training=fs.Training(11000))),
  "demo": Config(setup=fs.ON_CPU._replace(training=fs.Training(1000, 250), tests=fs.Tests())),
}


def build(config: Config) -> fs.Experiment:
  """MAML, or first-order MAML."""
  encoder, _, network, init_head = fs.with_linear_head(config.network, config.setup)

  def adapt(steps, rate):
    return fs.adapted_params(config.setup.start, config.inner.adapt(steps, rate, config.gradient))

  def learner(adapt, query_norm):
    return maml(network, adapt, encoder=encoder, query_norm=query_norm, **init_head)

  name = "first_order_maml" if config.gradient == "first_order" else "maml"
  steps = config.inner[1:3]
  return fs.adapted_experiment(
    config.setup, config.network, name, learner, *steps, adapt, tries=config.tries, curve=True
  )


if __name__ == "__main__":
  fs.main(build, PRESETS)
