"""Parameters sharded over the devices: an eighth on each of eight, gathered to be used, and the same training."""

import itertools

import jax
import numpy as np
import optax
import pytest
from one_of_several_hosts import trainings
from table_of_learners import image_episodes

from benchmarks.devices import collectives
from metajax import gradient_steps, make_mesh
from metajax.compose import linear, with_head
from metajax.learners import maml
from metajax.mesh import shard_batch, sharded_axis, to_host
from metajax.networks import conv_blocks, resnet
from metajax.train import make_train_step, start


def bytes_on_each(tree):
  """The largest number of bytes that a device holds of a tree."""
  held = {}
  for leaf in jax.tree.leaves(tree):
    for shard in leaf.addressable_shards:
      held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
  return max(held.values())


def test_the_longest_axis_that_the_devices_divide_is_sharded():
  shapes = {(): None, (3,): None, (8,): 0, (3, 3, 3, 64): 3, (512, 64): 0, (64, 64): 1, (7, 16, 24): 2, (0, 9): None}
  with jax.set_mesh(make_mesh(8, fsdp=True)):
    assert {shape: sharded_axis(shape) for shape in shapes} == shapes
  with jax.set_mesh(make_mesh(8)):
    assert {sharded_axis(shape) for shape in shapes} == {None}
  assert sharded_axis((8,)) is None


@pytest.mark.parametrize(
  "name", ["prototypical", *(pytest.param(name, marks=pytest.mark.slow) for name in ("maml", "clip", "simclr"))]
)
def test_sharded_parameters_learn_what_copies_learn(name):
  learner, batches = trainings()[name]
  optimizer, found = optax.adamw(1e-3, eps=1e-3), []
  for fsdp in (False, True):
    state, step, _ = started(learner, optimizer, next(batches()), fsdp)
    with jax.set_mesh(make_mesh(8, fsdp=fsdp)):
      for batch in itertools.islice(batches(), 2):
        state, _ = step(state, shard_batch(batch))
      found.append(to_host(state.params))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-6), *found)


def started(learner, optimizer, batch, fsdp=True):
  """The TrainState that a run starts from, its step, to be compiled, and the batch, on eight devices."""
  with jax.set_mesh(make_mesh(8, fsdp=fsdp)):
    state, sharded = start(learner, optimizer, batch), shard_batch(batch)
    return state, jax.jit(make_train_step(learner, optimizer)), sharded


def step_of(learner, batch):
  """The TrainState before a step and after it, and the step compiled."""
  before, step, sharded = started(learner, optax.adam(1e-3), batch)
  with jax.set_mesh(make_mesh(8, fsdp=True)):
    compiled = step.lower(before, sharded).compile()
    return before, compiled(before, sharded)[0], compiled


def big(name):
  """A learner whose params are many, and a batch."""
  if name == "maml":
    episodes = image_episodes(8)
    return maml(
      with_head(conv_blocks(1, 512, num_downsamples=1), linear(episodes.support.labels.shape[-1])),
      gradient_steps(optax.sgd(0.1), 1),
    ), episodes
  from metajax.learners import simclr
  from metajax.networks import projection_head

  images = np.random.default_rng(0).random((16, 16, 16, 3), np.float32)
  view = lambda key, image: image
  return simclr(resnet(10, width=0.5), projection_head(64, 16), view), images


@pytest.mark.parametrize("name", ["maml", pytest.param("simclr", marks=pytest.mark.slow)])
def test_each_of_eight_devices_holds_an_eighth_before_and_after_a_step(name):
  learner, batch = big(name)
  before, after, compiled = step_of(learner, batch)
  of = lambda state: (state.params, state.optimizer_state)
  for state in (before, after):
    assert bytes_on_each(of(state)) <= sum(x.nbytes for x in jax.tree.leaves(of(state))) / 6
  for path, leaf in jax.tree.leaves_with_path(of(after)):
    assert leaf.sharding.is_fully_replicated == (not any(n % 8 == 0 and n for n in leaf.shape)), path
  outside, inside = collectives(compiled.as_text())
  gathered = sum(size for kind, size in outside if kind == "all-gather")
  assert gathered >= 0.9 * sum(x.nbytes for x in jax.tree.leaves(before.params)) and not inside
  if name == "maml":
    largest = max(x.nbytes for x in jax.tree.leaves(before.params))
    assert "reduce-scatter" in {kind for kind, _ in outside}
    assert max(size for kind, size in outside if kind == "all-reduce") < largest / 6
