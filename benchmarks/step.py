"""Compiled programs: one step of MAML, and how often a second a program runs."""

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
  """A compiled function with its arguments, and what compiling it took."""

  compiled: jax.stages.Compiled
  arguments: tuple
  compile_seconds: float

  @property
  def temporary_mebibytes(self) -> float:
    return self.compiled.memory_analysis().temp_size_in_bytes / 2**20

  def __call__(self):
    return jax.block_until_ready(self.compiled(*self.arguments))


def compile_program(fn: Callable, *arguments: Any) -> Program:
  """`fn` compiled for its arguments, which are put on the device."""
  arguments = jax.tree.map(jax.numpy.asarray, arguments)
  lowered = jax.jit(fn).lower(*arguments)
  began = time.perf_counter()
  compiled = lowered.compile()
  return Program(compiled, arguments, time.perf_counter() - began)


def training_step(learner: Learner, optimizer: optax.GradientTransformation, batch: Batch) -> Program:
  """A learner's training step, from its start, compiled for a batch."""
  return compile_program(make_train_step(learner, optimizer), start(learner, optimizer, batch), batch)


def maml_step(convolution: str, episodes: Episode, inner_steps: int = 1, filters: int = 64) -> Program:
  """A training step of second-order MAML with conv4 (stride 2) as in the paper, compiled for a batch of episodes."""
  network = with_head(
    conv4(filters, downsample="stride", pool="mean", convolution=convolution), linear(episodes.query.labels.shape[-1])
  )
  return training_step(maml(network, gradient_steps(optax.sgd(0.4), inner_steps)), optax.adam(1e-3), episodes)


def calls_per_second(program: Callable, seconds: float, clock: Callable = time.perf_counter) -> float:
  """How often a second of the clock a program runs, over at least `seconds` and one call, after one to warm up."""
  program()
  began, count = clock(), 0
  while (elapsed := clock() - began) < seconds or not count:
    program()
    count += 1
  return count / elapsed


def alternate(
  programs: Mapping[str, Callable], rounds: int, seconds: float, clock: Callable = time.perf_counter
) -> dict[str, list[float]]:
  """Calls a second of each program in each round; the programs take turns."""
  found = {name: [] for name in programs}
  for _ in range(rounds):
    for name, program in programs.items():
      found[name].append(calls_per_second(program, seconds, clock))
  return found
