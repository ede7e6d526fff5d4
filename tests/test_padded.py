"""Padded rows and ways change nothing, with batch norm too: one program serves tasks of any ways and shots."""

import functools

import chex
import flax.linen as nn
import jax
import numpy as np
import optax
import params_by_numpy
import pytest
from table_of_learners import episodes

from metajax import Episode, Examples, Padded, gradient_steps
from metajax.compose import concat_context, linear, tile_head, with_head, with_preprocessing, zero_init_head
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
)
from metajax.networks import from_linen, mlp, relation_module, resnet12
from metajax.networks.linen.conv4 import Blocks

WAYS, WIDE, ROWS = 3, 5, 17  # of a task, of its padded labels, and its padded rows
# One block of conv4 each: of few filters, of more filters than a neighborhood has pixels, and of feature maps.
narrow = from_linen(Blocks(1, 4, "stride", "mean", 1, "batch", "slices"))
broad = from_linen(Blocks(2, 12, "max_pool", "flatten", 2, "batch", "native"))
maps = from_linen(Blocks(1, 4, "max_pool", "none", 1, "batch", "slices"))
batch_normed = from_linen(nn.BatchNorm(momentum=0.9))  # of flax: `use_running_average` and `mask`
two_steps = gradient_steps(optax.sgd(0.1), 2)
any_ways = {"init_head": zero_init_head}


def ahead(encoder, outputs=1):
  return with_head(encoder, linear(outputs))


LEARNERS = {
  "prototypical": prototypical(narrow),
  "prototypical, cosine": prototypical(broad, distance="cosine"),
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
