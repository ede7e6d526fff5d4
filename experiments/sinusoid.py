"""Few-shot regression of sine waves (arXiv:1703.03400, section 5.1) by MAML and its successors.

python -m experiments.sinusoid     # mean squared error 3.04 to 0.52 in one step; under a minute on 2 CPU cores
python -m experiments.sinusoid --learners maml joint meta_sgd maml_plus_plus imaml cavia
  # Meta-SGD 0.27 and CAVIA 0.24 in one step, MAML++ 0.41 in five, iMAML 0.28 in 32: 10 minutes on 1 CPU core
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import Episode, Examples, Learner, gradient_steps
from metajax.adapt import identity
from metajax.compose import concat_context
from metajax.evaluate import Score, few_shot_mse
from metajax.experiment import RUN, Experiment, Record, RunFlags, Trained, Training, main
from metajax.experiment.bounds import Bounds, Count, Positive, TwoOrMore
from metajax.experiment.former_flags import also
from metajax.experiment.types import Figure
from metajax.learners import cavia, imaml, maml, maml_plus_plus, meta_sgd
from metajax.losses import squared_error
from metajax.networks import mlp
from metajax.report import curves_figure
from metajax.shards import host_slice
from metajax.types import Batches

Name = Literal["maml", "joint", "meta_sgd", "maml_plus_plus", "imaml", "cavia"]
QUERIES = 100  # points of a test wave


class Config(NamedTuple):
  """Learns to regress a sine wave of unknown amplitude and phase from a few points.

  In training, MAML, Meta-SGD and CAVIA take one gradient step, MAML++ five, and iMAML 32 smaller ones with momentum.
  """

  learners: tuple[Name, ...] = ("maml", "joint")
  """Learners to train; joint is pretraining on all waves."""
  shots: Count = 10
  """Support points per task, and in training as many query points."""
  inner_learning_rate: Annotated[Positive, *also("--inner-rate")] = 0.01
  """Learning rate of the inner loop, or its initial value where it is learned; iMAML uses a tenth, CAVIA 1 as in its
  paper."""
  context: Annotated[int, Bounds(0, 2**16)] = 5
  """Size of CAVIA's context vector."""
  meta_batch_size: Annotated[int, *Count.__metadata__, *also("--tasks")] = 25
  """Training tasks per meta-batch."""
  learning_rate: Annotated[Positive, *also("--rate")] = 3e-3
  """Initial learning rate of Adam, decayed to 0 along a cosine (a constant 1e-3 in the paper); a tenth of it for
  learned inner rates."""
  hidden: Annotated[tuple[int, ...], Bounds(1, 2**16)] = (40, 40)
  """Widths of the hidden layers."""
  test_tasks: TwoOrMore = 1000
  """Number of sine waves to test on."""
  training: Training = Training()
  run: RunFlags = RUN


def build(config: Config) -> tuple[Experiment, ...]:
  """One experiment per learner, trained one after the other in one run."""
  learners = config.learners
  if not learners or len(set(learners)) < len(learners):
    raise ValueError(f"expected --learners, each once, got {' '.join(learners) or 'none'}")
  steps, meta_batch_size = config.training.steps, config.meta_batch_size
  ways = ways_to_learn(config.hidden, config.inner_learning_rate, config.context, steps, meta_batch_size)
  return tuple(
    Experiment(
      name,
      ways[name].after(ways[name].steps),
      optimizer(config.learning_rate, steps),
      lambda seed: sine_waves(config.shots, meta_batch_size, seed=seed),
      (functools.partial(_errors, config, ways[name]),),
      figures=functools.partial(draw, config, ways[name]) if name == "maml" else _nothing,
      title="Sine waves from a few points",
    )
    for name in learners
  )


def _nothing(*given):
  return []


def _errors(config: Config, way: "Way", trained: Trained, /) -> list[Record]:
  """Records of the mean squared error on held-out waves, after each number of steps."""
  test = _test_waves(config)
  about: dict[str, Any] = {"data": "sinusoid", "split": "test", "ways": None, "shots": config.shots, "queries": QUERIES}
  about |= {"policy": "none", "tasks": config.test_tasks, "steps": trained.steps, "seed": trained.seed}
  about["train_seconds"] = round(trained.seconds, 1)
  state = trained.states[0]
  error = lambda learner: few_shot_mse(learner, state.params, state.state, test, config.test_tasks)
  print(f"\nmean squared error on {config.test_tasks} held-out sine waves, {config.shots} points each")
  measured = []
  for what, (score, said) in errors_of(way, error, config.inner_learning_rate).items():
    print(f"  {', '.join((way.title, what)):<34} {score}{said}")
    value, interval = round(score.mean, 4), round(score.ci95, 4)
    measured.append(Record(way.title, "mean_squared_error", value, interval, (what,), None, about))
  return measured


def _test_waves(config: Config) -> Batches:
  return sine_waves(config.shots, 25, queries=QUERIES, seed=config.training.seed + 1)


def optimizer(rate: float, steps: int) -> optax.GradientTransformation:
  """Adam with cosine decay. Learned inner rates, about 100 times smaller than weights, have a tenth of its rate."""
  adam = lambda rate: optax.adam(optax.cosine_decay_schedule(rate, max(steps, 1)))
  of = lambda params: {part: "rates" if part == "rates" else "others" for part in params}
  return optax.partition({"rates": adam(rate / 10), "others": adam(rate)}, of)


class Way(NamedTuple):
  """A method for learning sine waves.

  Attributes:
    title: Name in the records.
    after: `inner steps -> Learner`.
    steps: Inner steps in training.
    tested: Numbers of inner steps in test.
    any_rate: True for fine-tuning at the best of several learning rates, as training fixes none.
  """

  title: str
  after: Callable[..., Learner]
  steps: int
  tested: tuple[int, ...]
  any_rate: bool = False


def ways_to_learn(
  hidden: tuple[int, ...], inner_learning_rate: float, context: int, steps: int, meta_batch_size: int
) -> dict[Name, Way]:
  """All methods, with one architecture of the perceptron."""
  network = mlp(hidden, 1)
  common: dict[str, Any] = {"loss": squared_error, "chunk_size": meta_batch_size}

  def plain(n, rate=inner_learning_rate):
    return maml(network, gradient_steps(optax.sgd(rate), n) if n else identity, **common)

  return {
    "maml": Way("maml", plain, 1, (0, 1, 10)),
    "joint": Way("joint pre-training", plain, 0, (0,), any_rate=True),
    "meta_sgd": Way("meta_sgd", lambda n: meta_sgd(network, n, learning_rate=inner_learning_rate, **common), 1, (1,)),
    "maml_plus_plus": Way(
      "maml_plus_plus",
      lambda n: maml_plus_plus(network, n, learning_rate=inner_learning_rate, multi_step_until=steps // 10, **common),
      5,
      (5,),
    ),
    "imaml": Way(
      "imaml",
      lambda n: imaml(
        network, optax.sgd(inner_learning_rate / 10, momentum=0.9), n, proximal_strength=5.0, damping=0.0, **common
      ),
      32,
      (32,),
    ),
    "cavia": Way(
      "cavia",
      lambda n: cavia(concat_context(network), context, gradient_steps(optax.sgd(1.0), n) if n else identity, **common),
      1,
      (0, 1, 10),
    ),
  }


def errors_of(way: Way, error: Callable[[Learner], Score], inner_learning_rate: float) -> dict[str, tuple[Score, str]]:
  """Returns `{number of steps, in words: (error, remark)}`."""
  name = lambda n: f"after {n} step{'s' * (n > 1)}" if n else "before"
  found = {name(n): (error(way.after(n)), "") for n in way.tested}
  if way.any_rate:
    rates = (inner_learning_rate, 0.001, 0.003, 0.03, 0.1)  # the pretrained network gets the best one
    fine_tuned = {r: error(way.after(1, r)) for r in rates}
    best = min(fine_tuned, key=lambda r: fine_tuned[r].mean)
    found[name(1)] = fine_tuned[best], f"  (learning rate {best}, the best of {rates})"
  return found


def sine_waves(shots: int, meta_batch_size: int, *, queries: int | None = None, seed: int = 0) -> Batches:
  """Tasks `y = a sin(x - p)` with x in [-5, 5], amplitude a in [0.1, 5] and phase p in [0, pi], uniform."""
  queries = shots if queries is None else queries

  def batch(step, shard):
    random = np.random.default_rng([seed, step])
    amplitude, phase = (
      random.uniform(0.1, 5, (meta_batch_size, 1, 1)),
      random.uniform(0, np.pi, (meta_batch_size, 1, 1)),
    )
    x = random.uniform(-5, 5, (meta_batch_size, shots + queries, 1))
    own = host_slice(meta_batch_size, shard)
    x, y = (a[own].astype(np.float32) for a in (x, amplitude * np.sin(x - phase)))
    return Episode(Examples(x[:, :shots], y[:, :shots]), Examples(x[:, shots:], y[:, shots:]))

  def batches(start=0, shard=(0, 1)):
    step = start
    while True:
      yield batch(step, shard)
      step += 1

  return batches


def draw(config: Config, way: Way, folder: Path, trained: Trained, records: list[dict]) -> list[Figure]:
  """Draws one test wave: the true curve, and MAML's predictions before and after 1 and 10 steps on the points."""
  path, episodes, params = folder / "waves.png", next(_test_waves(config)()), trained.states[0].params
  support = jax.tree.map(lambda x: x[0], episodes.support)
  x = jnp.linspace(-5, 5, 200)[:, None]
  order = np.argsort(episodes.query.inputs[0, :, 0])
  curves = {"truth": (episodes.query.inputs[0, order, 0], episodes.query.labels[0, order, 0])}
  for name, steps in {"before adaptation": 0, "after 1 step": 1, "after 10 steps": 10}.items():
    curves[name] = (x[:, 0], way.after(steps).predict(params, {}, support, x)[:, 0])
  points = (support.inputs[:, 0], support.labels[:, 0])
  curves_figure(curves, path, points=points, x="x", y="y", title="MAML on a held-out sine wave")
  said = f"Predictions before adaptation, and after 1 and 10 gradient steps on {config.shots} points."
  return [("Held-out sine wave", said, path)]


if __name__ == "__main__":
  main(build)
