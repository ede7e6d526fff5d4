"""Learning example weights under label noise: a bilevel problem without episodes, in one file.

python -m experiments.reweighting     # AUC of the weights 0.91; accuracy 73.1%, unweighted 63.0%; 80 s on 2 CPU cores

The weights are the params of an ordinary Learner and the network is its state, so that `fit` trains both: each step
takes a few weighted gradient steps from the current network, and updates the weights to reduce the resulting loss on a
few images with trusted labels (learning to reweight, arXiv:1803.09050, with one persistent weight per example).
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import Episode, Examples, Learner, Network, gradient_steps
from metajax.data import ImageDataset, load, select_classes
from metajax.evaluate import Score, mean_over_seeds
from metajax.experiment import RUN, Experiment, Record, RunFlags, Trained, Training, main
from metajax.experiment.bounds import Bounds, Count, Positive, Steps
from metajax.experiment.former_flags import also
from metajax.experiment.types import Figure
from metajax.losses import accuracy, cross_entropy
from metajax.mesh import process_shard
from metajax.networks import mlp
from metajax.report import contact_sheet_figure
from metajax.report.drawing import BLUE, VERMILION, drawing
from metajax.train import TrainState
from metajax.types import Adapt, Batches


class Config(NamedTuple):
  """Learns example weights from a few clean labels, and compares networks trained with and without the weights."""

  ways: Annotated[int, Bounds(2, 339)] = 10
  """Number of characters to classify, drawn anew for each seed, with 48 training and 24 test images each."""
  wrong: Annotated[float, Bounds(0.01, 0.99)] = 0.4
  """Fraction of the labels replaced by that of another character, uniformly."""
  clean: Annotated[int, Bounds(1, 24)] = 10
  """Images per character with trusted labels, on which every compared network also trains."""
  inner_steps: Steps = 4
  """Gradient steps on the weighted loss, through which the weights are differentiated."""
  inner_learning_rate: Annotated[Positive, *also("--inner-rate")] = 0.03
  """Learning rate of the gradient steps on the weighted loss."""
  learning_rate: Annotated[Positive, *also("--rate")] = 0.1
  """Learning rate of Adam for the example weights."""
  compared_steps: Count = 300
  """Adam steps of the compared networks."""
  training: Training = Training(steps=150, seeds=10, seeds_in_parallel=1)
  run: RunFlags = RUN


class Problem(NamedTuple):
  """Noisy examples, a mask of the wrong labels, clean examples, test examples, and the names of the characters."""

  noisy: Examples
  is_wrong: np.ndarray
  trusted: Examples
  test: Examples
  names: Sequence[str]


def reweighting(network: Network, adapt: Adapt, examples: int) -> Learner:
  """Learns the weight logits of `examples` examples; the state is the network trained with the weighted loss.

  A batch is one task, `[1, ...]`: mini-batches `[steps, n, ...]` of images and their rows, and the clean images.
  """
  classify = lambda state, images: network.apply(state, {}, images, train=True)[0]

  def init(key, batch):
    return jnp.zeros(examples), network.init(key, batch.query.inputs[0])[0]

  def loss(params, state, batch, key):
    noisy, clean = jax.tree.map(lambda x: x[0], batch)

    def weighted(state, noisy):
      weights = jax.nn.sigmoid(params[noisy.inputs["row"]])
      return cross_entropy(classify(state, noisy.inputs["image"]), weights[:, None] * noisy.labels)

    state, path = adapt(weighted, state, noisy)
    return cross_entropy(classify(state, clean.inputs), clean.labels), (state, {"weighted_loss": path.mean()})

  embed = lambda params, state, inputs: classify(state, inputs)
  return Learner(init, loss, embed, lambda params, state, support, inputs: classify(state, inputs))


def build(config: Config) -> Experiment:
  """Example weights learned through training steps of the network; each seed is a separate problem."""
  if config.training.seeds < 2:
    raise ValueError(f"expected --seeds to be at least 2, got {config.training.seeds}")
  if process_shard()[1] > 1:
    raise ValueError(f"expected one host, as a step has only one task, got {process_shard()[1]}")
  network = mlp([256], config.ways)
  adapt = gradient_steps(optax.sgd(config.inner_learning_rate), config.inner_steps, per_step=True)
  draws = functools.cache(lambda: [load("glyphs", "test", seed=draw) for draw in range(4)])  # 24 of each character
  problem_of = functools.cache(lambda seed: problem(draws(), config.ways, config.wrong, config.clean, seed))
  count = 48 * config.ways

  def train_batches(seed):
    found = problem_of(seed)
    print(f"seed {seed}: {found.is_wrong.sum()} of {len(found.is_wrong)} labels are wrong")
    return mini_batches(found.noisy, found.trusted, config.inner_steps, seed)

  return Experiment(
    "reweighting",
    reweighting(network, adapt, count),
    optax.adam(config.learning_rate),
    train_batches,
    (functools.partial(_compared, config, network, problem_of),),
    figures=functools.partial(_draw, problem_of),
    title="Learning to reweight examples",
  )


def _compared(config: Config, network: Network, problem_of: Callable, trained: Trained, /) -> list[Record]:
  """Records of how well the weights identify wrong labels, and of networks trained with and without the weights."""
  from sklearn.metrics import roc_auc_score

  train = jax.jit(functools.partial(train_and_test, network), static_argnames="steps")
  values, seeds = {}, len(trained.states)
  for seed, state in enumerate(trained.states, trained.seed):
    found, weights = problem_of(seed), weights_of(state)
    scores = {"weight_auc: learned weights": roc_auc_score(~found.is_wrong, weights)}
    scores |= compare(train, config.compared_steps, found.noisy, weights, *found[1:4], seed)
    for name, score in scores.items():
      values.setdefault(name, []).append(score)
  print(f"\n{config.ways} characters, {config.clean} clean images each, {config.wrong:.0%} of the other labels wrong; "
        f"mean over {seeds} seeds")  # fmt: skip
  about: dict[str, Any] = {
    "data": "glyphs",
    "split": f"{config.wrong:.0%} wrong labels",
    "ways": config.ways,
    "shots": 48,
  }
  about |= {"queries": 24, "policy": "none", "tasks": seeds, "seed": trained.seed, "seeds": seeds}
  about |= {"steps": trained.steps, "train_seconds": round(trained.seconds / seeds, 1)}
  measured = []
  for name, each in values.items():
    (measure, what), score = name.split(": "), mean_over_seeds([Score(value, 0.0, np.array([value])) for value in each])
    print(f"  {measure.replace('_', ' '):<10} {what:<37} {score}")
    said = {**about, "each": np.round(each, 4).tolist()}
    measured.append(Record(what, measure, round(score.mean, 4), round(score.ci95, 4), about=said))
  return measured


def weights_of(state: TrainState) -> np.ndarray:
  """The learned weight of each example."""
  return np.asarray(jax.nn.sigmoid(state.params))


def problem(draws: Sequence[ImageDataset], ways: int, wrong: float, clean: int, seed: int) -> Problem:
  """Draws the problem of a seed.

  Args:
    draws: Four data sets of the same characters: two noisy ones, one clean and one for test.
    ways: Number of characters.
    wrong: Fraction of wrong labels.
    clean: Clean images per character.
    seed: Random seed.
  """
  random = np.random.default_rng([seed, 0])
  characters = random.choice(len(draws[0].classes), ways, replace=False)
  first, second, third, test = (select_classes(draw, characters) for draw in draws)
  examples = lambda images, labels: Examples(np.float32(images) / 255, np.eye(ways, dtype=np.float32)[labels])
  labels = np.concatenate([first.labels, second.labels])
  is_wrong = random.permutation(len(labels)) < round(wrong * len(labels))
  given = (labels + is_wrong * random.integers(1, ways, len(labels))) % ways
  noisy = examples(np.concatenate([first.images, second.images]), given)
  some = random.permuted(np.argsort(third.labels, kind="stable").reshape(ways, -1), axis=1)[:, :clean].ravel()
  trusted = examples(third.images[some], third.labels[some])
  return Problem(noisy, is_wrong, trusted, examples(test.images, test.labels), first.classes)


def mini_batches(noisy: Examples, clean: Examples, steps: int, seed: int, size: int = 100) -> Batches:
  """Batches for `reweighting`, each of one task, identical on every host."""

  def batches(start=0, shard=(0, 1)):
    for step in itertools.count(start):
      rows = np.random.default_rng([seed, 1, step]).integers(0, len(noisy.labels), (1, steps, size))
      support = Examples({"row": rows, "image": noisy.inputs[rows]}, noisy.labels[rows])
      yield Episode(support, jax.tree.map(lambda x: x[None], clean))

  return batches


def compare(
  train: Callable,
  steps: int,
  noisy: Examples,
  weights: np.ndarray,
  is_wrong: np.ndarray,
  clean: Examples,
  test: Examples,
  seed: int,
) -> dict[str, float]:
  """Test accuracies of networks trained with different weights and the clean examples, and gains of the weights."""
  everything, scores = jax.tree.map(lambda *x: np.concatenate(x), noisy, clean), {}
  for what, given, count in (
    ("learned weights", weights, steps),
    ("unweighted", np.ones_like(weights), steps),
    ("unweighted, a fifth of the steps", np.ones_like(weights), -(-steps // 5)),
    ("clean images alone", np.zeros_like(weights), steps),
    ("wrong labels left out", np.float32(~is_wrong), steps),
  ):
    given = np.append(given, np.ones(len(clean.labels), np.float32))
    scores[f"accuracy: {what}"] = 100 * float(train(everything, given, test, seed, steps=count))
  for other in ("unweighted", "unweighted, a fifth of the steps"):
    scores[f"gain: over {other}"] = scores["accuracy: learned weights"] - scores[f"accuracy: {other}"]
  return scores


def train_and_test(
  network: Network, data: Examples, weights: jax.Array, test: Examples, seed: int, *, steps: int, size: int = 100
) -> jax.Array:
  """Test accuracy after steps of Adam on the weighted loss: an Adapt is also a training loop."""
  key, rows_key = jax.random.split(jax.random.key(seed))
  classify = lambda params, images: network.apply(params, {}, images, train=True)[0]
  each = lambda params, rows: (classify(params, data.inputs[rows]), weights[rows, None] * data.labels[rows])
  weighted = lambda params, rows: cross_entropy(*each(params, rows))
  adapt = gradient_steps(optax.adam(1e-3), steps, gradient="first_order", per_step=True)
  rows = jax.random.randint(rows_key, (steps, size), 0, len(data.labels))
  params, _ = adapt(weighted, network.init(key, data.inputs)[0], rows)
  return accuracy(classify(params, test.inputs), test.labels)


def _draw(problem_of: Callable, folder: Path, trained: Trained, records: list[dict]) -> list[Figure]:
  """Draws a histogram of the weights of right and wrong labels, and the examples of least weight."""
  histogram, sheet = folder / "weights.png", folder / "least.png"
  problems = [problem_of(seed) for seed, _ in enumerate(trained.states, trained.seed)]
  weights = np.concatenate([weights_of(state) for state in trained.states])
  is_wrong = np.concatenate([one.is_wrong for one in problems])
  with drawing(histogram, 6.4, 3.2) as figure:
    axes, kinds = figure.subplots(), {"label": ["right label", "wrong label"], "color": [BLUE, VERMILION]}
    axes.hist([weights[~is_wrong], weights[is_wrong]], np.linspace(0, 1, 21), **kinds)
    axes.set(xlabel="learned weight", ylabel="images", title="Learned weights of right and wrong labels")
    axes.legend()
  noisy, is_wrong, _, _, names = problems[0]
  least = np.argsort(weights_of(trained.states[0]))[:24]
  said = [f"{'wrong' if is_wrong[i] else 'right'}: {names[noisy.labels[i].argmax()]}" for i in least]
  contact_sheet_figure(noisy.inputs[least], said, sheet)
  return [
    ("Weights", "Learned weights of all seeds.", histogram),
    ("Smallest weights", "Training examples of the first seed, each with its label, right or wrong.", sheet),
  ]


if __name__ == "__main__":
  main(build)
