"""MAML's regression of sine waves from a few points (arXiv:1703.03400, section 5.1).

python -m experiments.sinusoid     # mean squared error 3.05 to 0.53 in one step; under a minute on 2 CPU cores
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import command_line, records, runs
from experiments.runs import RUN, RunFlags
from metajax import Episode, Examples, gradient_steps, make_mesh
from metajax.evaluate import Score, few_shot_error
from metajax.learners import maml
from metajax.losses import squared_error
from metajax.mesh import devices_for, share
from metajax.networks import mlp
from metajax.report import curves_figure, learning_curves_figure, page, read_metrics
from metajax.types import Batches


def main(
  shots: int = 10,
  inner_rate: float = 0.01,
  tasks: int = 25,
  steps: int = 10000,
  rate: float = 3e-3,
  hidden: tuple[int, ...] = (40, 40),
  test_tasks: int = 1000,
  seed: int = 0,
  run: RunFlags = RUN,
):
  """Learns to regress a sine wave of unknown amplitude and phase from a few points, in one gradient step.

  Args:
    shots: points of a task, as many again as queries.
    inner_rate: of the one step of gradient descent.
    tasks: tasks in a step.
    steps: training steps (the paper takes 70,000).
    rate: Adam's, falling to 0 along a cosine (the paper's is a constant 1e-3).
    hidden: widths of the network's layers.
    test_tasks: how many sine waves to test on.
    seed: of the initialisation and the tasks.
    run: flags that every experiment has.
  """
  flags = locals()
  this = runs.begin("sinusoid", main, flags)
  for name, value, least in (
    ("shots", shots, 1),
    ("tasks", tasks, 1),
    ("steps", steps, 1),
    ("test_tasks", test_tasks, 2),
    ("seed", seed, 0),
  ):
    if value < least:
      raise ValueError(f"expected {name} to be at least {least}, got {value}")
  runs.check_same(this)
  devices = devices_for(tasks, None if share()[1] > 1 else 1)  # so small a network gains nothing from more
  with jax.set_mesh(make_mesh(devices, fsdp=run.fsdp)):
    runs.write_configuration(this, devices)
    network = mlp(hidden, 1)
    learner_with = lambda adapt: maml(network, adapt, loss=squared_error, at_once=tasks)
    one_step = learner_with(gradient_steps(optax.sgd(inner_rate), 1))
    none = learner_with(_no_steps)
    waves, test = sine_waves(shots, tasks, seed=seed), sine_waves(shots, 25, queries=100, seed=seed + 1)
    trained, seconds = {}, {}
    for name, learner in {"maml": one_step, "joint pre-training": none}.items():
      print(f"{name}, {shots} shots")
      optimizer = optax.adam(optax.cosine_decay_schedule(rate, max(steps, 1)))
      part = name.split()[0]
      trained[name], seconds[name] = runs.train(
        this, learner, optimizer, waves, steps, rows=tasks, part=part, seed=seed, log_every=max(1, steps // 20)
      )

    error = lambda name, learner: few_shot_error(learner, trained[name].params, {}, test, test_tasks)
    rates = (inner_rate, 0.001, 0.003, 0.03, 0.1)  # the pre-trained network is given the best
    fine_tuned = {r: error("joint pre-training", learner_with(gradient_steps(optax.sgd(r), 1))) for r in rates}
    best = min(fine_tuned, key=lambda r: fine_tuned[r].mean)
    errors: dict[str, Score] = {
      "maml, before": error("maml", none),
      "maml, after 1 step": error("maml", one_step),
      "maml, after 10 steps": error("maml", learner_with(gradient_steps(optax.sgd(inner_rate), 10))),
      "joint pre-training, before": error("joint pre-training", none),
      "joint pre-training, after 1 step": fine_tuned[best],
    }
    print(f"\nmean squared error on {test_tasks} new sine waves, {shots} points each")
    measured = []
    for what, score in errors.items():
      print(
        f"  {what:<34} {score}" + (f"  (the best of the rates {rates}: {best})" if score is fine_tuned[best] else "")
      )
      found = records.record(
        learner=what,
        data="sinusoid",
        split="test",
        measure="mean_squared_error",
        ways=None,
        shots=shots,
        queries=100,
        policy="none",
        tasks=test_tasks,
        value=round(score.mean, 4),
        interval=round(score.interval, 4),
        published=None,
        train_seconds=round(seconds[what.split(",")[0]], 1),
        steps=steps,
        seed=seed,
      )
      measured.append(found)
    records.write(this.folder / "records.json", measured)
    _page(
      this.folder, functools.partial(draw, learner_with, inner_rate, trained["maml"].params, next(test())), measured
    )
  print(f"\nthe run's page: {this.folder / 'index.html'}")
  if run.record:
    records.publish("sinusoid", measured, this.folder / "figures" / "waves.png")


def _page(folder, draw, measured):
  """The run's figures, and its page."""
  waves = folder / "figures" / "waves.png"
  draw(waves)
  figures = [("A new sine wave", "Before adaptation, and after steps of gradient descent on the ten points.", waves)]
  for part in ("maml", "joint"):
    path = folder / "figures" / f"learning_curves-{part}.png"
    learning_curves_figure(read_metrics(folder / part), path)
    figures.append((f"Learning curves, {part}", "Mean squared error on training waves.", path))
  page(
    folder / "index.html",
    title="MAML on sine waves",
    summary=[(r["learner"], f"{r['value']:g} ± {r['interval']:g}", "mean squared error") for r in measured],
    configuration=runs.configuration(folder),
    records=measured,
    figures=figures,
  )


def sine_waves(shots: int, tasks: int, *, queries: int | None = None, seed: int = 0) -> Batches:
  """Tasks `y = a sin(x - p)` with x in [-5, 5], amplitude a in [0.1, 5] and phase p in [0, pi], uniform."""
  queries = shots if queries is None else queries

  def batch(step, host, hosts):
    random = np.random.default_rng([seed, step])
    amplitude, phase = random.uniform(0.1, 5, (tasks, 1, 1)), random.uniform(0, np.pi, (tasks, 1, 1))
    x = random.uniform(-5, 5, (tasks, shots + queries, 1))
    own = slice(host * tasks // hosts, (host + 1) * tasks // hosts)
    x, y = (a[own].astype(np.float32) for a in (x, amplitude * np.sin(x - phase)))
    return Episode(Examples(x[:, :shots], y[:, :shots]), Examples(x[:, shots:], y[:, shots:]))

  def batches(start=0, shard=(0, 1)):
    step = start
    while True:
      yield batch(step, *shard)
      step += 1

  return batches


def draw(learner_with, inner_rate, params, episodes, path):
  """One test wave: the truth, and MAML's curve before and after 1 and 10 steps on the points."""
  support = jax.tree.map(lambda x: x[0], episodes.support)
  x = jnp.linspace(-5, 5, 200)[:, None]
  order = np.argsort(episodes.query.inputs[0, :, 0])
  curves = {"truth": (episodes.query.inputs[0, order, 0], episodes.query.labels[0, order, 0])}
  for name, adapt in {
    "before adaptation": _no_steps,
    "after 1 step": gradient_steps(optax.sgd(inner_rate), 1),
    "after 10 steps": gradient_steps(optax.sgd(inner_rate), 10),
  }.items():
    curves[name] = (x[:, 0], learner_with(adapt).predict(params, {}, support, x)[:, 0])
  points = (support.inputs[:, 0], support.labels[:, 0])
  curves_figure(curves, path, points=points, x="x", y="y", title="MAML on a sine wave it has not seen")


def _no_steps(loss, params, data):
  """The Adapt that does not adapt."""
  return params, loss(params, data)[None]


if __name__ == "__main__":
  command_line.run(main)
