"""Forward over reverse is reverse over reverse: of every optimizer, in everything learned, in every precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import gradient_steps
from metajax.mesh import make_mesh, mean_over_tasks, shard_batch

PARTS = {"in": "fast", "out": "slow"}
OPTIMIZERS = {  # of a learned rate
  "sgd": optax.sgd,
  "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
  "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
  "adam": lambda rate: optax.adam(rate, eps_root=1e-8),
  "adamw": lambda rate: optax.adamw(rate, eps_root=1e-8, weight_decay=0.1),
  "rmsprop": lambda rate: optax.rmsprop(rate, initial_scale=0.1),
  "adagrad": optax.adagrad,
  "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(rate, momentum=0.9)),
  "masked": lambda rate: optax.chain(
    optax.masked(optax.scale_by_adam(eps_root=1e-8), {"in": True, "out": False}), optax.scale_by_learning_rate(rate)
  ),
  "multi_transform": lambda rate: optax.multi_transform(
    {"fast": optax.adam(rate, eps_root=1e-8), "slow": optax.sgd(rate / 2)}, PARTS
  ),
  "schedule": lambda rate: optax.sgd(lambda count: rate * 0.5**count),
}
LEARNED = ("params", "rate", "weights")
REMATS = ("gradients", "step", "sqrt")
TOLERANCE = {("float64", 5): 1e-12, ("float64", 20): 1e-10, ("float32", 5): 1e-5, ("float32", 20): 1e-4}


def network(params, inputs):
  return jnp.tanh(inputs @ params["in"]) @ params["out"]


def problem(dtype, tasks=8):
  """What is learned: initial parameters, a rate, a weight of each row of the inner loss; and tasks of two data sets."""
  random = np.random.default_rng(0)
  draw = lambda *shape: random.normal(size=shape).astype(dtype)
  params = {"in": draw(3, 4), "out": draw(4)}
  learned = {"params": params, "rate": np.asarray(0.05, dtype), "weights": np.abs(draw(6))}
  return learned, {name: (draw(tasks, n, 3), draw(tasks, n)) for name, n in (("support", 6), ("query", 5))}


def query_loss(optimizer, steps, learned, task, **how):
  """The loss on the query after steps on the support, whose loss and whose optimizer close over learned values."""
  inputs, targets = task["query"]

  def support_loss(params, data):
    return jnp.mean(learned["weights"] * jnp.square(network(params, data[0]) - data[1]))

  adapt = gradient_steps(OPTIMIZERS[optimizer](learned["rate"]), steps, **how)
  adapted, losses = adapt(support_loss, learned["params"], task["support"])
  return jnp.mean(jnp.square(network(adapted, inputs) - targets)) + jnp.mean(losses)


def one_task(optimizer, steps, learned, tasks, **how):
  return query_loss(optimizer, steps, learned, jax.tree.map(lambda x: x[0], tasks), **how)


def vmapped(optimizer, steps, learned, tasks, **how):
  return jnp.mean(jax.vmap(lambda task: query_loss(optimizer, steps, learned, task, **how))(tasks))


def averaged(optimizer, steps, learned, tasks, **how):
  one = lambda learned, rest, task: (query_loss(optimizer, steps, learned, task, **how), ((), 1.0))
  return mean_over_tasks(one, 2)(learned, (), tasks)[0]


def relative(found, expected):
  norm = lambda tree: np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree)))
  assert norm(expected) > 1e-4, "nothing to compare"
  return norm(jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, found, expected)) / norm(expected)


def errors(over, optimizer, dtype, steps, modes, devices=1):
  """{(learned, remat): relative difference of the mixed gradient from the reverse one}, of one program for all modes.

  Args:
    modes: pairs of the names of what is learned and of what is kept.
  """

  def gradient(names, learned, tasks, **how):
    of = lambda some: over(optimizer, steps, {**learned, **some}, tasks, **how)
    return jax.grad(of)({name: learned[name] for name in names})

  @jax.jit
  def both(learned, tasks):
    reverse = gradient(LEARNED, learned, tasks, gradient="reverse")
    return reverse, [gradient(names, learned, tasks, remat=remat) for names, remat in modes]

  with jax.enable_x64(dtype == "float64"), jax.set_mesh(make_mesh(devices)):
    learned, tasks = problem(dtype)
    reverse, mixed = jax.device_get(both(learned, shard_batch(tasks)))
  pairs = [(name, remat, found[name]) for (names, remat), found in zip(modes, mixed, strict=True) for name in names]
  return {(name, remat): relative(found, reverse[name]) for name, remat, found in pairs}


def within(found, dtype, steps):
  assert all(error <= TOLERANCE[dtype, steps] for error in found.values()), found


def turned(values, by):
  """Values in another order, so that over a few rows every one meets every other."""
  return values[by % len(values) :] + values[: by % len(values)]


ALIKE = ("nesterov", "adamw", "adagrad", "masked")  # another of the table has what is particular to them


@pytest.mark.parametrize(
  ("row", "optimizer"),
  [pytest.param(*row, id=row[1], marks=pytest.mark.slow if row[1] in ALIKE else ()) for row in enumerate(OPTIMIZERS)],
)
def test_mixed_is_reverse_for_every_optimizer_with_everything_learned_and_every_remat(row, optimizer):
  steps = (5, 20)[row % 2]
  modes = [([name], remat) for name, remat in zip(LEARNED, turned(REMATS, row), strict=True)]
  if optimizer == "adam":  # which takes longest to compile
    modes = [(LEARNED, "step")]
  within(errors(one_task, optimizer, "float64", steps, modes), "float64", steps)


@pytest.mark.parametrize(
  ("optimizer", "steps", "remat", "over", "devices"),
  [
    ("sgd", 20, "gradients", averaged, 8),
    ("adam", 5, "step", averaged, 8),
    pytest.param("masked", 5, "sqrt", averaged, 1, marks=pytest.mark.slow),
    pytest.param("rmsprop", 20, "sqrt", vmapped, 1, marks=pytest.mark.slow),
    ("clipped", 5, "gradients", vmapped, 1),
    pytest.param("multi_transform", 20, "step", one_task, 1, marks=pytest.mark.slow),
  ],
)
def test_mixed_is_reverse_in_float32_over_tasks_on_one_device_and_eight(optimizer, steps, remat, over, devices):
  within(errors(over, optimizer, "float32", steps, [(LEARNED, remat)], devices), "float32", steps)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("dtype", "steps"), TOLERANCE)
@pytest.mark.parametrize(("over", "devices"), [(one_task, 1), (averaged, 8)])
def test_mixed_is_reverse_in_the_full_product(over, devices, dtype, steps, optimizer):
  found = errors(over, optimizer, dtype, steps, [(LEARNED, remat) for remat in REMATS], devices)
  print(over.__name__, dtype, steps, optimizer, "largest difference", max(found.values()))
  within(found, dtype, steps)
