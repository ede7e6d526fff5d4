"""Padded rows and ways change nothing, with batch norm too: one program serves tasks of any ways and shots."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import params_by_numpy
import pytest
from table_of_learners import episodes

from metajax import Episode, Examples, Padded, gradient_steps, predictors
from metajax.compose import (
  concat_context,
  film,
  linear,
  on_pairs,
  parallel,
  tied,
  tile_head,
  with_head,
  with_preprocessing,
  zero_init_head,
)
from metajax.learners import (
  anil,
  cavia,
  imaml,
  maml,
  maml_plus_plus,
  matching,
  meta_sgd,
  proto_maml,
  prototypical,
  r2d2,
  relation,
  reptile,
  with_augmentation,
)
from metajax.mesh import make_mesh, shard_batch
from metajax.networks import from_linen, mlp, relation_module, resnet12
from metajax.networks.linen.conv4 import Blocks

WAYS, WIDE, ROWS = 3, 5, 17  # of a task, of its padded labels, and its padded rows
# Blocks of conv4: of few filters, of more filters than a neighborhood has pixels, and of feature maps.
narrow = from_linen(Blocks(1, 4, "stride", "mean", 1, "batch", "slices"))
broad = from_linen(Blocks(2, 12, "max_pool", "flatten", 2, "batch", "slices"))
maps = from_linen(Blocks(1, 4, "max_pool", "none", 1, "batch", "slices"))
batch_normed = from_linen(nn.BatchNorm(momentum=0.9))  # of flax: `use_running_average` and `mask`
two_steps = gradient_steps(optax.sgd(0.1), 2)
any_ways = {"init_head": zero_init_head}


def ahead(encoder, outputs=1):
  return with_head(encoder, linear(outputs))


LEARNERS = {
  "prototypical": prototypical(broad),
  "prototypical, cosine": prototypical(narrow, distance="cosine"),
  "prototypical, resnet12": prototypical(resnet12((4, 5))),
  "prototypical, preprocessed": prototypical(with_preprocessing(narrow, lambda image: 2 * image)),
  "matching": matching(narrow, scale=5.0),
  "matching, full context": matching(narrow, read_steps=2),
  "relation": relation(maps, relation_module(3, 4)),
  "r2d2": r2d2(narrow),
  "r2d2, support": r2d2(narrow, query_norm="support"),
  "proto-maml": proto_maml(narrow, two_steps),
  "maml": maml(ahead(narrow), two_steps, **any_ways),
  "maml, support": maml(ahead(broad), two_steps, query_norm="support", **any_ways),
  "maml, reverse": maml(ahead(narrow), gradient_steps(optax.sgd(0.1), 2, gradient="reverse"), **any_ways),
  "maml, repeated head": maml(ahead(narrow), two_steps, init_head=tile_head),
  "maml, adam": maml(ahead(narrow), gradient_steps(optax.adam(0.05, eps_root=1e-6), 2), **any_ways),
  "imaml": imaml(ahead(narrow), optax.sgd(0.1), 3, cg_steps=2, init_head=tile_head),
  "meta-sgd": meta_sgd(ahead(narrow), 2, learning_rate=0.1, **any_ways),
  "maml++": maml_plus_plus(ahead(narrow), 2, multi_step_until=1, **any_ways),
  "anil": anil(narrow, linear(1), two_steps, **any_ways),
  "anil, head with batch norm": anil(narrow, ahead(batch_normed), two_steps, query_norm="support", **any_ways),
  "reptile": reptile(ahead(narrow), gradient_steps(optax.sgd(0.1), 2, gradient="first_order"), **any_ways),
  "cavia": cavia(ahead(concat_context(with_head(mlp((4,), 4), batch_normed))), 2, two_steps, **any_ways),
}
OF_VECTORS = ("cavia",)
FAST = ("prototypical", "relation", "r2d2, support", "maml", "anil, head with batch norm", "cavia")


def over(names):
  mark = lambda name: [] if name in FAST else [pytest.mark.slow]
  return pytest.mark.parametrize("name", [pytest.param(name, marks=mark(name)) for name in names])


def batch(name, seed=0):
  return episodes(seed, (6,) if name in OF_VECTORS else (16, 16, 1), ways=WAYS, tasks=2)


def padded(tasks, fill=3.0, rows=ROWS, ways=WIDE):
  """The tasks with further rows of anything, and further ways."""

  def grow(examples):
    more = rows - examples.labels.shape[1]
    inputs = np.pad(examples.inputs, [(0, 0), (0, more), *[(0, 0)] * (examples.inputs.ndim - 2)], constant_values=fill)
    labels = np.pad(examples.labels, ((0, 0), (0, more), (0, ways - examples.labels.shape[2])))
    return Examples(Padded(inputs, labels.any(-1)), labels)

  return Episode(*map(grow, tasks))


def close(first, second, tolerance=1e-5):
  chex.assert_trees_all_close(jax.device_get(first), jax.device_get(second), rtol=tolerance, atol=tolerance)


@functools.lru_cache(maxsize=1)
def started(name):
  learner, wide = LEARNERS[name], padded(batch(name))
  return learner, *params_by_numpy.start(learner.init, wide), jax.jit(jax.value_and_grad(learner.loss, has_aux=True))


@over(LEARNERS)
def test_padded_rows_and_ways_change_no_loss_state_metric_or_meta_gradient(name):
  _, params, state, run = started(name)
  tasks, key = batch(name), jax.random.key(1)
  close(run(params, state, tasks, key), run(params, state, padded(tasks), key))


@over(LEARNERS)
def test_padded_rows_and_ways_change_no_prediction_and_no_absent_way_is_predicted(name):
  learner, params, state, _ = started(name)
  tasks = batch(name, seed=1)
  predict = jax.jit(learner.predict)
  (support, query), (wide, asked) = (jax.tree.map(lambda x: x[0], one) for one in (tasks, padded(tasks)))
  found = predict(params, state, wide, asked.inputs)
  real = found[: len(query.labels)]
  close(predict(params, state, support, query.inputs), real[:, :WAYS])
  assert found.shape == (ROWS, WIDE) and np.isfinite(found).all()
  assert (np.asarray(real[:, WAYS:]) == 0).all() if name == "relation" else (np.asarray(real[:, WAYS:]) <= -9e8).all()
  embedded = jax.jit(learner.embed)(params, state, asked.inputs)
  close(jax.jit(learner.embed)(params, state, query.inputs), embedded[: len(query.labels)])


def test_one_program_serves_tasks_of_any_ways_and_shots():
  learner, params, state, _ = started("prototypical")
  traces = []

  @jax.jit
  def run(params, state, tasks, key):
    traces.append(1)
    return learner.loss(params, state, tasks, key)

  for ways, shots, queries in ((2, 1, 4), (3, 2, 2), (5, 3, 1)):
    tasks = episodes(0, (16, 16, 1), ways=ways, shots=shots, queries=queries, tasks=2)
    key = jax.random.key(1)
    close(jax.jit(learner.loss)(params, state, tasks, key), run(params, state, padded(tasks), key))
  assert len(traces) == 1


@pytest.mark.parametrize("name", ["prototypical", pytest.param("maml, support", marks=pytest.mark.slow)])
def test_a_task_of_padding_alone_changes_nothing_with_batch_norm(name):
  _, params, state, run = started(name)
  tasks, key = padded(batch(name)), jax.random.key(1)
  twice = jax.tree.map(lambda x: np.concatenate([x[:1], x[:1]]), tasks)
  empty = jax.tree.map(np.copy, twice)  # a program that still runs may see an array that is changed in place
  empty.query.labels[1], empty.query.inputs.mask[1], empty.support.inputs.mask[1] = 0, False, False
  close(run(params, state, empty, key), run(params, state, twice, key))


def test_a_batch_of_padding_alone_has_finite_outputs_and_statistics():
  rows = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
  params, state = normalized.init(jax.random.key(0), rows)
  found = normalized.apply(params, state, Padded(rows, np.zeros(5, bool)), train=True)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_padded_images_are_augmented_by_their_values_alone():
  learner, params, state, _ = started("prototypical")
  augmented = with_augmentation(learner, lambda key, image: image + jax.random.normal(key, (1, 1, 1)))
  tasks, key = batch("prototypical"), jax.random.key(1)
  run = jax.jit(augmented.loss)
  close(run(params, state, tasks, key), run(params, state, padded(tasks), key))


normalized = with_head(linear(4), batch_normed)
COMPOSED = {
  "tied": (tied(normalized), (5, 3, 6)),
  "film": (film(normalized, batch_normed), (5, 6)),
  "on_pairs": (on_pairs(with_head(normalized, linear(1))), (5, 3)),
  "concat_context": (concat_context(normalized), (5, 6)),
  "parallel": (parallel(a=normalized, b=normalized), (5, 6)),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_networks_hand_the_mask_on(name):
  network, shape = COMPOSED[name]
  rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  wide = np.concatenate([rows, np.full((4, *shape[1:]), 7, np.float32)])
  first = {"film": np.ones(2, np.float32), "concat_context": np.ones(2, np.float32)}.get(name)

  def inputs(values, padded):
    values = {"a": values, "b": 2 * values} if name == "parallel" else values
    own = Padded(values, np.arange(9) < 5) if padded else values
    return (rows[:2], own) if name == "on_pairs" else (own,) if first is None else (own, first)

  @jax.jit
  def run(*given):
    params, state = network.init(jax.random.key(0), *given)
    return network.apply(params, state, *given, train=True)

  outputs, state = run(*inputs(wide, True))
  close(run(*inputs(rows, False)), (outputs[:5], state))


class Sums(nn.Module):
  """A network that keeps a state and takes no mask."""

  @nn.compact
  def __call__(self, inputs, train):
    return nn.BatchNorm(not train)(inputs.reshape(len(inputs), -1))


@pytest.mark.parametrize(
  "learner",
  [prototypical(from_linen(Sums())), maml(ahead(from_linen(Sums())), two_steps, **any_ways), r2d2(from_linen(Sums()))],
  ids=["prototypical", "maml", "r2d2"],
)
def test_a_network_with_batch_statistics_that_takes_no_mask_refuses_padded_rows_by_name(learner):
  with pytest.raises(ValueError, match=r"no padded rows in a training pass of Sums, .* takes no mask"):
    learner.init(jax.random.key(0), padded(batch("prototypical")))


def test_a_network_that_takes_no_mask_predicts_padded_rows_by_running_statistics():
  network = from_linen(Sums())
  inputs = batch("prototypical").query.inputs[0]
  params, state = network.init(jax.random.key(0), inputs)
  given = Padded(inputs, np.arange(len(inputs)) < 3)
  found, expected = (network.apply(params, state, one, train=False)[0] for one in (given, inputs))
  np.testing.assert_array_equal(found, expected)


def test_a_mask_that_contradicts_the_labels_is_refused():
  tasks = padded(batch("prototypical"))
  tasks.query.inputs.mask[:] = True
  with pytest.raises(ValueError, match="a mask that is false where a row has no label, got a true one in the query"):
    LEARNERS["prototypical"].init(jax.random.key(0), tasks)
  integers = tasks._replace(query=tasks.query._replace(inputs=Padded(tasks.query.inputs.values, np.ones((2, ROWS)))))
  with pytest.raises(ValueError, match=r"a bool mask \[2, 17\], got"):
    LEARNERS["prototypical"].init(jax.random.key(0), integers)


def test_where_every_row_counts_padded_ones_are_refused():
  cut = gradient_steps(optax.sgd(0.1), 2, gradient="first_order", per_step=True)
  tasks = padded(batch("prototypical"))
  with pytest.raises(ValueError, match="no padded rows with minibatches"):
    reptile(ahead(narrow, WIDE), cut, minibatches=(2, 4)).init(jax.random.key(0), tasks)
  flat = lambda params, state, inputs: jnp.zeros((ROWS, 2))
  support, query = jax.tree.map(lambda x: x[0], tasks)
  for name in ("bd_cspn", "laplacian_shot", "tim", "pt_map"):
    with pytest.raises(ValueError, match=f"no padded rows, each of which {name} would count"):
      getattr(predictors, name)(flat)({}, {}, support, query.inputs)


@pytest.mark.slow
def test_padded_tasks_on_eight_devices_agree_with_one():
  _, params, state, _ = started("maml, support")
  tasks = padded(episodes(0, (16, 16, 1), ways=WAYS, tasks=8))
  run, key = jax.value_and_grad(LEARNERS["maml, support"].loss, has_aux=True), jax.random.key(1)
  one = jax.device_get(jax.jit(run)(params, state, tasks, key))
  with jax.set_mesh(make_mesh(8)):
    close(one, jax.jit(run)(params, state, shard_batch(tasks), key), 2e-5)
