"""One compiled training step of MAML, and how often a second it runs."""

import time
from typing import NamedTuple

import jax
import optax

from metajax import gradient_steps
from metajax.compose import linear, with_head
from metajax.learners import maml
from metajax.networks import conv4
from metajax.train import make_train_step, start
from metajax.types import Episode


class Step(NamedTuple):
  """A compiled step with its arguments, and what compiling it took."""

  compiled: jax.stages.Compiled
  train_state: tuple
  batch: Episode
  compile_seconds: float

  @property
  def temporary_mebibytes(self) -> float:
    return self.compiled.memory_analysis().temp_size_in_bytes / 2**20


def maml_step(convolution: str, episodes: Episode, inner_steps: int = 1, filters: int = 64) -> Step:
  """Second-order MAML with conv4 (stride 2) as in the paper, compiled for a batch of episodes."""
  network = with_head(
    conv4(filters, downsample="stride", pool="mean", convolution=convolution), linear(episodes.query.labels.shape[-1])
  )
  learner, optimizer = maml(network, gradient_steps(optax.sgd(0.4), inner_steps)), optax.adam(1e-3)
  train_state = start(learner, optimizer, episodes)
  lowered = jax.jit(make_train_step(learner, optimizer)).lower(train_state, episodes)
  began = time.perf_counter()
  compiled = lowered.compile()
  return Step(compiled, train_state, jax.device_put(episodes), time.perf_counter() - began)


def steps_per_second(step: Step, seconds: float) -> float:
  """Training steps a second over at least `seconds`, after one to warm up."""
  train_state, _ = jax.block_until_ready(step.compiled(step.train_state, step.batch))
  began, count = time.perf_counter(), 0
  while (elapsed := time.perf_counter() - began) < seconds or not count:
    train_state, _ = jax.block_until_ready(step.compiled(train_state, step.batch))
    count += 1
  return count / elapsed
