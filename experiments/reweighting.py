"""Learning the weight of each training example under label noise: a bilevel problem without episodes, in a page.

python -m experiments.reweighting     # AUC of the weights 0.91; accuracy 73.1%, unweighted 63.0%; 80 s on 2 CPU cores

The weights are the params of an ordinary Learner and the network its state, so `fit` trains both: each step takes a few
weighted gradient steps from where the network is, and moves the weights so that the loss on a few pictures with labels
to trust would have fallen more (learning to reweight, arXiv:1803.09050, with a weight kept for each example).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import roc_auc_score

from experiments import command_line, few_shot, headlines, records, runs
from experiments.runs import RUN, RunFlags
from metajax import Episode, Examples, Learner, Network, gradient_steps
from metajax.data import load, select_classes
from metajax.evaluate import Score, over_seeds
from metajax.losses import accuracy, cross_entropy
from metajax.mesh import share
from metajax.networks import mlp
from metajax.report import contact_sheet_figure, page
from metajax.report.drawing import BLUE, VERMILION, drawing
from metajax.types import Adapt, Batches


def reweighting(network: Network, adapt: Adapt, examples: int) -> Learner:
  """Learns the logits of the weights of so many examples; the state is the network that the weighted loss trains.

  A batch is one task, `[1, ...]`: mini-batches `[steps, n, ...]` of pictures and their rows, and the clean pictures.
  """
  classify = lambda state, pictures: network.apply(state, {}, pictures, train=True)[0]

  def init(key, batch):
    return jnp.zeros(examples), network.init(key, batch.query.inputs[0])[0]

  def loss(params, state, batch, key):
    noisy, clean = jax.tree.map(lambda x: x[0], batch)

    def weighted(state, noisy):
      weights = jax.nn.sigmoid(params[noisy.inputs["row"]])
      return cross_entropy(classify(state, noisy.inputs["picture"]), weights[:, None] * noisy.labels)

    state, path = adapt(weighted, state, noisy)
    return cross_entropy(classify(state, clean.inputs), clean.labels), (state, {"weighted_loss": path.mean()})

  embed = lambda params, state, inputs: classify(state, inputs)
  return Learner(init, loss, embed, lambda params, state, support, inputs: classify(state, inputs))


def main(
  ways: int = 10,
  wrong: float = 0.4,
  clean: int = 10,
  inner_steps: int = 4,
  inner_rate: float = 0.03,
  rate: float = 0.1,
  steps: int = 150,
  compared_steps: int = 300,
  seed: int = 0,
  seeds: int = 10,
  run: RunFlags = RUN,
):
  """Learns which labels to trust from a few clean ones, and compares networks trained with and without the weights.

  Args:
    ways: letters to tell apart, others for each seed, with 48 pictures each to train on and 24 to test on.
    wrong: the part of the labels that is replaced by another letter's, uniformly.
    clean: pictures of each letter with labels to trust, 1 to 24; every network that is compared has them too.
    inner_steps: steps of gradient descent on the weighted loss, through which the weights are differentiated.
    inner_rate: of these.
    rate: Adam's, for the weights.
    steps: of the weights.
    compared_steps: Adam's, for the networks that are compared.
    seed: of the first problem.
    seeds: how many problems, each with letters, wrong labels and networks of its own; at least 2.
    run: flags that every experiment has.
  """
  this = runs.begin("reweighting", main, locals())
  few_shot.check_seed(seed, seeds)
  if share()[1] > 1:
    raise ValueError(f"expected one host, there is one task in a step and nothing to share, got {share()[1]}")
  runs.check_same(this)
  network, adapt = mlp([256], ways), gradient_steps(optax.sgd(inner_rate), inner_steps, per_step=True)
  train = jax.jit(functools.partial(train_and_test, network), static_argnames="steps")
  draws = [load("glyphs", "test", seed=draw) for draw in range(4)]  # 24 pictures of each letter, four times
  this = runs.write_configuration(this, 1)
  problems, values, seconds = [], {}, []
  for one in range(seed, seed + seeds):
    noisy, is_wrong, trusted, test, names = problem(draws, ways, wrong, clean, one)
    print(f"seed {one}: {is_wrong.sum()} of {len(is_wrong)} labels wrong")
    learner, batches = reweighting(network, adapt, len(is_wrong)), mini_batches(noisy, trusted, inner_steps, one)
    how = {"rows": 1, "part": f"seed-{one}", "seed": one, "log_every": max(1, steps // 5)}
    trained, took = runs.train(this, learner, optax.adam(rate), batches, steps, **how)
    weights = np.asarray(jax.nn.sigmoid(trained.params))
    problems.append((weights, is_wrong, noisy, names))
    seconds.append(took)
    scores = {"weight_auc: learned weights": roc_auc_score(~is_wrong, weights)}
    scores |= compare(train, compared_steps, noisy, weights, is_wrong, trusted, test, one)
    for name, score in scores.items():
      values.setdefault(name, []).append(score)

  print(f"\n{ways} letters, {clean} clean pictures each, {wrong:.0%} of other labels wrong; mean over {seeds} seeds")
  data = {"data": "glyphs", "split": f"{wrong:.0%} wrong labels", "ways": ways, "shots": 48, "queries": 24}
  how = {"policy": "none", "tasks": seeds, "seed": seed, "seeds": seeds, "published": None, "steps": steps}
  how["train_seconds"] = round(float(np.mean(seconds)), 1)
  measured = []
  for name, each in values.items():
    (measure, what), score = name.split(": "), over_seeds([Score(value, 0.0, None) for value in each])
    print(f"  {measure.replace('_', ' '):<10} {what:<37} {score}")
    result = {"value": round(score.mean, 4), "interval": round(score.interval, 4), "each": np.round(each, 4).tolist()}
    measured.append(records.record(learner=what, measure=measure, **data, **result, **how))
  records.write(this.folder / "records.json", measured)
  _page(this.folder, problems, measured)
  print(f"\nthe run's page: {this.folder / 'index.html'}")
  if run.record:
    records.publish("reweighting", measured, this.folder / "figures" / "weights.png")


def problem(draws, ways: int, wrong: float, clean: int, seed: int):
  """Noisy examples, which of them have a wrong label, clean and test examples, and the letters' names."""
  random = np.random.default_rng([seed, 0])
  letters = random.choice(len(draws[0].classes), ways, replace=False)
  first, second, third, test = (select_classes(draw, letters) for draw in draws)
  examples = lambda images, labels: Examples(np.float32(images) / 255, np.eye(ways, dtype=np.float32)[labels])
  labels = np.concatenate([first.labels, second.labels])
  is_wrong = random.permutation(len(labels)) < round(wrong * len(labels))
  given = (labels + is_wrong * random.integers(1, ways, len(labels))) % ways
  noisy = examples(np.concatenate([first.images, second.images]), given)
  some = random.permuted(np.argsort(third.labels, kind="stable").reshape(ways, -1), axis=1)[:, :clean].ravel()
  trusted = examples(third.images[some], third.labels[some])
  return noisy, is_wrong, trusted, examples(test.images, test.labels), first.classes


def mini_batches(noisy: Examples, clean: Examples, steps: int, seed: int, size: int = 100) -> Batches:
  """Batches for `reweighting`, each of one task, which every host is given."""

  def batches(start=0, shard=(0, 1)):
    for step in itertools.count(start):
      rows = np.random.default_rng([seed, 1, step]).integers(0, len(noisy.labels), (1, steps, size))
      support = Examples({"row": rows, "picture": noisy.inputs[rows]}, noisy.labels[rows])
      yield Episode(support, jax.tree.map(lambda x: x[None], clean))

  return batches


def compare(train, steps, noisy, weights, is_wrong, clean, test, seed) -> dict[str, float]:
  """The test accuracy of networks trained alike, all with the clean examples too, and what the weights gain."""
  everything, scores = jax.tree.map(lambda *x: np.concatenate(x), noisy, clean), {}
  for what, given, count in (
    ("learned weights", weights, steps),
    ("unweighted", np.ones_like(weights), steps),
    ("unweighted, a fifth of the steps", np.ones_like(weights), -(-steps // 5)),
    ("clean pictures alone", np.zeros_like(weights), steps),
    ("wrong labels left out", np.float32(~is_wrong), steps),
  ):
    given = np.append(given, np.ones(len(clean.labels), np.float32))
    scores[f"accuracy: {what}"] = 100 * float(train(everything, given, test, seed, steps=count))
  for other in ("unweighted", "unweighted, a fifth of the steps"):
    scores[f"gain: over {other}"] = scores["accuracy: learned weights"] - scores[f"accuracy: {other}"]
  return scores


def train_and_test(network: Network, data: Examples, weights, test: Examples, seed, *, steps: int, size: int = 100):
  """The accuracy after steps of Adam on the weighted loss: an Adapt is a training loop, too."""
  key, rows_key = jax.random.split(jax.random.key(seed))
  classify = lambda params, pictures: network.apply(params, {}, pictures, train=True)[0]
  each = lambda params, rows: (classify(params, data.inputs[rows]), weights[rows, None] * data.labels[rows])
  weighted = lambda params, rows: cross_entropy(*each(params, rows))
  adapt = gradient_steps(optax.adam(1e-3), steps, gradient="first_order", per_step=True)
  rows = jax.random.randint(rows_key, (steps, size), 0, len(data.labels))
  params, _ = adapt(weighted, network.init(key, data.inputs)[0], rows)
  return accuracy(classify(params, test.inputs), test.labels)


def _page(folder, problems, measured):
  """The run's figures, and its page."""
  histogram, sheet = folder / "figures" / "weights.png", folder / "figures" / "least.png"
  weights, is_wrong = (np.concatenate([one[i] for one in problems]) for i in range(2))
  with drawing(histogram, 6.4, 3.2) as figure:
    axes, kinds = figure.subplots(), {"label": ["right label", "wrong label"], "color": [BLUE, VERMILION]}
    axes.hist([weights[~is_wrong], weights[is_wrong]], np.linspace(0, 1, 21), **kinds)
    axes.set(xlabel="learned weight", ylabel="pictures", title="What was learned of right and of wrong labels")
    axes.legend()
  weights, is_wrong, noisy, names = problems[0]
  least = np.argsort(weights)[:24]
  said = [f"{'wrong' if is_wrong[i] else 'right'}: {names[noisy.labels[i].argmax()]}" for i in least]
  contact_sheet_figure(noisy.inputs[least], said, sheet)
  page(
    folder / "index.html",
    title="Learning to reweight examples",
    summary=[(r["learner"], f"{r['value']:.3g} ± {r['interval']:.2g}", r["measure"]) for r in measured],
    configuration=runs.configuration(folder),
    records=measured,
    warnings=headlines.warn(folder, measured),
    figures=[
      ("Weights", "Of all seeds.", histogram),
      ("The least weights", "Of the first seed, with the labels as given, and whether they are right.", sheet),
    ],
  )


if __name__ == "__main__":
  command_line.run(main)
