"""Networks, inner optimizers, tasks and differentiation modes of the meta-gradient benchmark."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import optax

from benchmarks.networks import transformer
from metajax import gradient_steps, images_to_float
from metajax.adapt import implicit
from metajax.compose import linear, with_head
from metajax.data import episodes as episodes_of
from metajax.data import load
from metajax.learners import maml
from metajax.losses import cross_entropy
from metajax.mesh import mean_over_tasks, replicate, shard_batch
from metajax.networks import conv4
from metajax.types import Episode, Network

CG_STEPS = 5
EXACT = {
  "reverse": partial(gradient_steps, gradient="reverse"),
  "reverse, step again": partial(gradient_steps, gradient="reverse", remat="step"),
  "mixed": gradient_steps,
  "mixed, step again": partial(gradient_steps, remat="step"),
  "mixed, sqrt": partial(gradient_steps, remat="sqrt"),
}
MODES = {
  "first order": partial(gradient_steps, gradient="first_order"),
  **EXACT,
  "implicit": partial(implicit, proximal_strength=2.0, cg_steps=CG_STEPS),
}
RATES = {("conv4", "sgd"): 0.1, ("conv4", "adam"): 1e-3, ("transformer", "sgd"): 0.01, ("transformer", "adam"): 3e-4}


def network_of(
  name: str, *, ways: int = 5, filters: int = 64, width: int = 128, blocks: int = 4, remat_blocks: bool = False
) -> Network:
  """A network of the benchmark by name, with a linear head."""
  if name == "transformer":
    return with_head(transformer(blocks, width, remat=remat_blocks), linear(ways))
  return with_head(conv4(filters, downsample="stride", pool="mean"), linear(ways))


def optimizer_of(network: str, name: str) -> optax.GradientTransformation:
  """An inner optimizer of the benchmark by name."""
  rate = RATES[network, name]
  return optax.sgd(rate) if name == "sgd" else optax.adam(rate, eps_root=1e-8)


def images(tasks: int, **task: int) -> Episode:
  """A batch of character tasks with added noise.

  With a uniform background thousands of activations share one value. A rounding across the kink of a ReLU then changes
  the gradient in the second digit, so that no two libraries would agree in float32.
  """
  drawn = images_to_float(next(episodes_of(load("glyphs", "train"), meta_batch_size=tasks, **task)()))
  noise = np.random.default_rng(0)
  noisy = lambda x: (x + 0.1 * noise.random(x.shape)).astype(np.float32)
  return Episode(*(examples._replace(inputs=noisy(examples.inputs)) for examples in drawn))


def meta_gradient(network: Network, adapt: Callable, episodes: Episode) -> tuple[Callable, tuple]:
  """A function that returns (loss, gradient norm, gradient) of MAML on a batch of tasks, and its arguments."""
  learner = maml(network, adapt)
  params, state = replicate(learner.init(jax.random.key(0), episodes))

  def run(params, state, episodes):
    differentiate = jax.value_and_grad(learner.loss, has_aux=True)
    (loss, _), gradient = differentiate(params, state, episodes, jax.random.key(0))
    return loss, optax.tree.norm(gradient), gradient

  return run, (params, state, shard_batch(episodes))


def inner_gradient(network: Network, episodes: Episode) -> tuple[Callable, tuple]:
  """A function as in `meta_gradient` for one gradient of each task's support loss, the unit of cost."""

  def task(params, state, one):
    logits, _ = network.apply(params, state, one.support.inputs, train=True)
    return cross_entropy(logits, one.support.labels), ((), 1.0)

  def run(params, state, episodes):
    (loss, _), gradient = jax.value_and_grad(mean_over_tasks(task), has_aux=True)(params, state, episodes)
    return loss, optax.tree.norm(gradient), gradient

  params, state = replicate(network.init(jax.random.key(0), episodes.support.inputs[0]))
  return run, (params, state, shard_batch(episodes))
