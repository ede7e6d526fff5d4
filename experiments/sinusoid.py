"""MAML's regression of sine waves from a few points (arXiv:1703.03400, section 5.1), and its successors'.

python -m experiments.sinusoid     # mean squared error 3.04 to 0.52 in one step; under a minute on 2 CPU cores
python -m experiments.sinusoid --learners maml joint meta_sgd maml_plus_plus imaml cavia
  # Meta-SGD 0.27 and CAVIA 0.24 in one step, MAML++ 0.41 in five, iMAML 0.28 in 32: 10 minutes on 1 CPU core
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import command_line, headlines, records, runs
from experiments.runs import RUN, RunFlags
from metajax import Episode, Examples, Learner, gradient_steps, make_mesh
from metajax.adapt import unchanged
from metajax.compose import concatenated
from metajax.evaluate import Score, few_shot_error
from metajax.learners import cavia, imaml, maml, maml_plus_plus, meta_sgd
from metajax.losses import squared_error
from metajax.mesh import devices_for, share
from metajax.networks import mlp
from metajax.report import curves_figure, learning_curves_figure, page, read_metrics
from metajax.shards import host_slice
from metajax.types import Batches

Name = Literal["maml", "joint", "meta_sgd", "maml_plus_plus", "imaml", "cavia"]


def main(
  learners: tuple[Name, ...] = ("maml", "joint"),
  shots: int = 10,
  inner_rate: float = 0.01,
  context: int = 5,
  tasks: int = 25,
  steps: int = 10000,
  rate: float = 3e-3,
  hidden: tuple[int, ...] = (40, 40),
  test_tasks: int = 1000,
  seed: int = 0,
  run: RunFlags = RUN,
):
  """Learns to regress a sine wave of unknown amplitude and phase from a few points.

  In training, MAML, Meta-SGD and CAVIA take one gradient step, MAML++ five, iMAML 32 smaller ones with momentum.

  Args:
    learners: which ones are trained; joint is pre-training on all waves.
    shots: points of a task, as many again as queries.
    inner_rate: of the inner loop's gradient descent; where learned rates begin. iMAML's is a tenth of it; CAVIA's is 1,
      its paper's.
    context: numbers of CAVIA's context.
    tasks: tasks in a step.
    steps: training steps (the paper takes 70,000).
    rate: Adam's, falling to 0 along a cosine (the paper's is a constant 1e-3); a tenth of it for learned rates.
    hidden: widths of the network's layers.
    test_tasks: how many sine waves to test on.
    seed: of the initialisation and the tasks.
    run: flags that every experiment has.
  """
  flags = locals()
  this = runs.begin("sinusoid", main, flags)
  if not learners or len(set(learners)) < len(learners):
    raise ValueError(f"expected --learners, each once, got {' '.join(learners) or 'none'}")
  runs.check_same(this)
  devices = devices_for(tasks, None if share()[1] > 1 else 1)  # so small a network gains nothing from more
  with jax.set_mesh(make_mesh(devices, fsdp=run.fsdp)):
    this = runs.write_configuration(this, devices)
    ways = ways_to_learn(hidden, inner_rate, context, steps, tasks)
    waves, test = sine_waves(shots, tasks, seed=seed), sine_waves(shots, 25, queries=100, seed=seed + 1)
    trained, seconds = {}, {}
    for name in learners:
      print(f"{ways[name].title}, {shots} shots")
      log_every = max(1, steps // 20)
      learner = ways[name].after(ways[name].steps)
      trained[name], seconds[name] = runs.train(
        this, learner, optimizer(rate, steps), waves, steps, rows=tasks, part=name, seed=seed, log_every=log_every
      )

    error = lambda name, learner: few_shot_error(learner, trained[name].params, trained[name].state, test, test_tasks)
    print(f"\nmean squared error on {test_tasks} new sine waves, {shots} points each")
    measured = []
    for name in learners:
      common = {"data": "sinusoid", "split": "test", "measure": "mean_squared_error", "ways": None, "shots": shots}
      common |= {"queries": 100, "policy": "none", "tasks": test_tasks, "published": None}
      common |= {"train_seconds": round(seconds[name], 1), "steps": steps, "seed": seed}
      for what, (score, said) in errors_of(ways[name], functools.partial(error, name), inner_rate).items():
        print(f"  {what:<34} {score}{said}")
        value = {"value": round(score.mean, 4), "interval": round(score.interval, 4)}
        measured.append(records.record(learner=what, **common, **value))
    records.write(this.folder / "records.json", measured)
    of_maml = ways["maml"].after, trained.get("maml"), next(test())
    _page(this.folder, learners, functools.partial(draw, *of_maml) if "maml" in learners else None, measured)
  print(f"\nthe run's page: {this.folder / 'index.html'}")
  if run.record:
    figure = this.folder / "figures" / "waves.png"
    records.publish("sinusoid", measured, figure if figure.exists() else None)


def optimizer(rate: float, steps: int) -> optax.GradientTransformation:
  """Adam along a cosine; learned rates of an inner loop, which are a hundred times as small as weights, at a tenth."""
  adam = lambda rate: optax.adam(optax.cosine_decay_schedule(rate, max(steps, 1)))
  of = lambda params: {part: "rates" if part == "rates" else "others" for part in params}
  return optax.partition({"rates": adam(rate / 10), "others": adam(rate)}, of)


class Way(NamedTuple):
  """A way to learn sine waves.

  Attributes:
    title: in the records.
    after: the learner of a number of inner steps.
    steps: in training.
    tested: numbers of steps to test with.
    any_rate: whether it is fine-tuned at the best of several rates, which training knew nothing of.
  """

  title: str
  after: Callable[[int], Learner]
  steps: int
  tested: tuple[int, ...]
  any_rate: bool = False


def ways_to_learn(hidden, inner_rate: float, context: int, steps: int, tasks: int) -> dict[Name, Way]:
  """All of them, on a perceptron of one width."""
  network, common = mlp(hidden, 1), {"loss": squared_error, "at_once": tasks}

  def plain(n, rate=inner_rate):
    return maml(network, gradient_steps(optax.sgd(rate), n) if n else unchanged, **common)

  return {
    "maml": Way("maml", plain, 1, (0, 1, 10)),
    "joint": Way("joint pre-training", plain, 0, (0,), any_rate=True),
    "meta_sgd": Way("meta_sgd", lambda n: meta_sgd(network, n, rate=inner_rate, **common), 1, (1,)),
    "maml_plus_plus": Way(
      "maml_plus_plus",
      lambda n: maml_plus_plus(network, n, rate=inner_rate, multi_step_until=steps // 10, **common),
      5,
      (5,),
    ),
    "imaml": Way(
      "imaml",
      lambda n: imaml(network, optax.sgd(inner_rate / 10, momentum=0.9), n, strength=5.0, damping=0.0, **common),
      32,
      (32,),
    ),
    "cavia": Way(
      "cavia",
      lambda n: cavia(concatenated(network), context, gradient_steps(optax.sgd(1.0), n) if n else unchanged, **common),
      1,
      (0, 1, 10),
    ),
  }


def errors_of(way: Way, error: Callable[[Learner], Score], inner_rate: float) -> dict[str, tuple[Score, str]]:
  """`{what: (its error, what is said of it)}`, after each number of steps."""
  name = lambda n: f"{way.title}, " + (f"after {n} step{'s' * (n > 1)}" if n else "before")
  found = {name(n): (error(way.after(n)), "") for n in way.tested}
  if way.any_rate:
    rates = (inner_rate, 0.001, 0.003, 0.03, 0.1)  # the pre-trained network is given the best
    fine_tuned = {r: error(way.after(1, r)) for r in rates}
    best = min(fine_tuned, key=lambda r: fine_tuned[r].mean)
    found[name(1)] = fine_tuned[best], f"  (the best of the rates {rates}: {best})"
  return found


def _page(folder, learners, draw, measured):
  """The run's figures, and its page."""
  figures = []
  if draw:
    waves = folder / "figures" / "waves.png"
    draw(waves)
    figures.append(
      ("A new sine wave", "Before adaptation, and after steps of gradient descent on the ten points.", waves)
    )
  for part in learners:
    path = folder / "figures" / f"learning_curves-{part}.png"
    learning_curves_figure(read_metrics(folder / part), path)
    figures.append((f"Learning curves, {part}", "Mean squared error on training waves.", path))
  page(
    folder / "index.html",
    title="Sine waves from a few points",
    summary=[(r["learner"], f"{r['value']:g} ± {r['interval']:g}", "mean squared error") for r in measured],
    configuration=runs.configuration(folder),
    records=measured,
    figures=figures,
    warnings=headlines.warn(folder, measured),
  )


def sine_waves(shots: int, tasks: int, *, queries: int | None = None, seed: int = 0) -> Batches:
  """Tasks `y = a sin(x - p)` with x in [-5, 5], amplitude a in [0.1, 5] and phase p in [0, pi], uniform."""
  queries = shots if queries is None else queries

  def batch(step, shard):
    random = np.random.default_rng([seed, step])
    amplitude, phase = random.uniform(0.1, 5, (tasks, 1, 1)), random.uniform(0, np.pi, (tasks, 1, 1))
    x = random.uniform(-5, 5, (tasks, shots + queries, 1))
    own = host_slice(tasks, shard)
    x, y = (a[own].astype(np.float32) for a in (x, amplitude * np.sin(x - phase)))
    return Episode(Examples(x[:, :shots], y[:, :shots]), Examples(x[:, shots:], y[:, shots:]))

  def batches(start=0, shard=(0, 1)):
    step = start
    while True:
      yield batch(step, shard)
      step += 1

  return batches


def draw(maml_after, trained, episodes, path):
  """One test wave: the truth, and MAML's curve before and after 1 and 10 steps on the points."""
  support = jax.tree.map(lambda x: x[0], episodes.support)
  x = jnp.linspace(-5, 5, 200)[:, None]
  order = np.argsort(episodes.query.inputs[0, :, 0])
  curves = {"truth": (episodes.query.inputs[0, order, 0], episodes.query.labels[0, order, 0])}
  for name, steps in {"before adaptation": 0, "after 1 step": 1, "after 10 steps": 10}.items():
    curves[name] = (x[:, 0], maml_after(steps).predict(trained.params, {}, support, x)[:, 0])
  points = (support.inputs[:, 0], support.labels[:, 0])
  curves_figure(curves, path, points=points, x="x", y="y", title="MAML on a sine wave it has not seen")


if __name__ == "__main__":
  command_line.run(main)
