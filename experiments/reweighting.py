"""Learning the weight of each training example under label noise: a bilevel problem without episodes, in a page.

python -m experiments.reweighting     # MEASURED

The weights are the outer parameters and the network is the state of one ordinary Learner, so that `fit` trains it: each
step takes a few weighted gradient steps from where the network is, and asks how the weights should have been for the
loss on few clean pictures to fall most (learning to reweight, arXiv:1803.09050, with a weight kept for each example).
"""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import command_line, records, runs
from experiments.runs import RUN, RunFlags
from metajax import Episode, Examples, Learner, Network, gradient_steps
from metajax.data import load, select_classes
from metajax.evaluate import Score, over_seeds
from metajax.losses import accuracy, cross_entropy
from metajax.networks import mlp
from metajax.report import contact_sheet_figure, learning_curves_figure, page, read_metrics
from metajax.report.drawing import BLUE, VERMILION, drawing
from metajax.types import Adapt


def reweighting(network: Network, adapt: Adapt, examples: int) -> Learner:
  """Learns the weights `sigmoid(params)` of so many examples; its state is the network that they train.

  A batch is one episode, `[1, ...]`: the support is mini-batches `[steps, n, ...]` of pictures and their rows, the
  query the clean pictures.
  """
  outputs = lambda state, pictures: network.apply(state, {}, pictures, train=True)[0]

  def init(key, batch):
    return jnp.zeros(examples), network.init(key, batch.query.inputs[0])[0]

  def loss(params, state, batch, key):
    noisy, clean = jax.tree.map(lambda x: x[0], batch)

    def weighted(state, noisy):
      weights = jax.nn.sigmoid(params[noisy.inputs["row"]])
      return cross_entropy(outputs(state, noisy.inputs["picture"]), weights[:, None] * noisy.labels)

    state, path = adapt(weighted, state, noisy)
    return cross_entropy(outputs(state, clean.inputs), clean.labels), (state, {"weighted_loss": path.mean()})

  classify = lambda params, state, inputs: outputs(state, inputs)
  return Learner(init, loss, classify, lambda params, state, support, inputs: classify(params, state, inputs))


def main(
  ways: int = 10,
  wrong: float = 0.4,
  clean: int = 10,
  hidden: int = 256,
  inner_steps: int = 4,
  inner_rate: float = 0.03,
  batch_size: int = 100,
  rate: float = 0.1,
  steps: int = 150,
  retrain_steps: int = 300,
  seed: int = 0,
  seeds: int = 5,
  run: RunFlags = RUN,
):
  """Learns which labels to trust from a few clean ones, and trains a classifier of letters on what is left.

  Args:
    ways: classes, drawn anew for each seed; of each 48 pictures to train on.
    wrong: the part of the labels that is replaced by another, uniformly.
    clean: pictures of each class with labels to trust, 1 to 23; the rest of 24 are to test on.
    hidden: width of the network's layer.
    inner_steps, inner_rate: of gradient descent on the weighted loss, through which the weights are differentiated.
    batch_size: pictures in each.
    rate: Adam's, for the weights.
    steps: of the weights.
    retrain_steps: of Adam, for the networks that are compared; all see the clean pictures too.
    seed: the first one.
    seeds: how many problems, each with classes, wrong labels and networks of its own.
    run: flags that every experiment has.
  """
  this = runs.begin("reweighting", main, locals())
  for name, value, least, most in (("wrong", wrong, 0.01, 0.99), ("clean", clean, 1, 23), ("seeds", seeds, 2, 1000)):
    if not least <= value <= most:
      raise ValueError(f"expected {name} to be from {least} to {most}, got {value}")
  sources = [load("glyphs", "test", seed=draw) for draw in range(3)]  # three times 24 pictures of each letter
  runs.check_same(this)
  runs.write_configuration(this, 1)
  network, each, seconds = mlp([hidden], ways), [], []
  adapt = gradient_steps(optax.sgd(inner_rate), inner_steps, per_step=True)
  train = functools.partial(jax.jit(retrained, static_argnums=(0, 1)), network, retrain_steps)
  for number in range(seed, seed + seeds):
    noisy, is_wrong, trusted, test = problem(sources, ways, wrong, clean, number)
    batches = mini_batches(noisy, trusted, inner_steps, batch_size, number)
    learner, part = reweighting(network, adapt, len(is_wrong)), f"seed-{number}"
    print(f"seed {number}: {len(is_wrong)} pictures, {is_wrong.sum()} of them with a wrong label")
    found, took = runs.train(this, learner, optax.adam(rate), batches, steps, rows=1, part=part, seed=number)
    weights = np.asarray(jax.nn.sigmoid(found.params))
    seconds.append(took)
    score = lambda state: 100 * float(accuracy(learner.embed(None, state, test.inputs), test.labels))  # noqa: B023
    everything = jax.tree.map(lambda *x: np.concatenate(x), noisy, trusted)
    of = lambda weights: score(train(everything, np.append(weights, np.ones(len(trusted.labels))), number))  # noqa: B023
    each.append(
      {
        "reweighting, above 1/2": of(weights > 0.5),
        "reweighting, weights": of(weights),
        "unweighted": of(np.ones_like(weights)),
        "clean pictures alone": of(np.zeros_like(weights)),
        "true labels known": of(~is_wrong),
        "reweighting": roc_auc(weights, is_wrong),
      }
    )
    if number == seed:
      figures = draw(this.folder, weights, is_wrong, noisy, select(sources[0], ways, number))
  gain = [one["reweighting, above 1/2"] - one["unweighted"] for one in each]
  print(each, gain)


if __name__ == "__main__":
  command_line.run(main)
