"""Compiled programs, such as a training step of MAML, and their rates in calls per second."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from metajax import gradient_steps
from metajax.compose import linear, with_head
from metajax.learners import maml
from metajax.networks import conv4
from metajax.train import make_train_step, start
from metajax.types import Batch, Episode, Learner


class Program(NamedTuple):
  """A compiled function with its arguments, and its compile time in seconds."""

  compiled: jax.stages.Compiled
  arguments: tuple
  compile_seconds: float

  @property
  def temporary_mebibytes(self) -> float:
    return self.compiled.memory_analysis().temp_size_in_bytes / 2**20

  def __call__(self):
    return jax.block_until_ready(self.compiled(*self.arguments))


def compile_program(fn: Callable, *arguments: Any) -> Program:
  """Compiles `fn` for its arguments, which are moved to the device."""
  arguments = jax.tree.map(jax.numpy.asarray, arguments)
  lowered = jax.jit(fn).lower(*arguments)
  began = time.perf_counter()
  compiled = lowered.compile()
  return Program(compiled, arguments, time.perf_counter() - began)


def training_step(learner: Learner, optimizer: optax.GradientTransformation, batch: Batch) -> Program:
  """Compiles the first training step of a learner for a batch."""
  return compile_program(make_train_step(learner, optimizer), start(learner, optimizer, batch), batch)


def maml_step(convolution: str, episodes: Episode, inner_steps: int = 1, filters: int = 64) -> Program:
  """Compiles a training step of second-order MAML for a batch of episodes, with conv4 (stride 2) as in the paper."""
  network = with_head(
    conv4(filters, downsample="stride", pool="mean", convolution=convolution), linear(episodes.query.labels.shape[-1])
  )
  return training_step(maml(network, gradient_steps(optax.sgd(0.4), inner_steps)), optax.adam(1e-3), episodes)


def calls_per_second(program: Callable, seconds: float, clock: Callable = time.perf_counter) -> float:
  """Calls per second of a program by the clock, over at least `seconds` and one call, after a warmup call."""
  program()
  began, count = clock(), 0
  while (elapsed := clock() - began) < seconds or not count:
    program()
    count += 1
  return count / elapsed


def alternate(
  programs: Mapping[str, Callable], rounds: int, seconds: float, clock: Callable = time.perf_counter
) -> dict[str, list[float]]:
  """Calls per second of each program in each round; the programs alternate."""
  found = {name: [] for name in programs}
  for _ in range(rounds):
    for name, program in programs.items():
      found[name].append(calls_per_second(program, seconds, clock))
  return found
