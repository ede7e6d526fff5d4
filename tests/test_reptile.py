"""Reptile: its gradient is exactly initial minus adapted, and its mini-batches go through all examples."""

import re

import jax
import numpy as np
import optax
import pytest
from table_of_learners import episodes, first_order, regressions

from metajax import Examples, fit, gradient_steps
from metajax.compose import linear, with_head, zero_init_head
from metajax.learners import maml, reptile
from metajax.learners.reptile import draw_minibatches
from metajax.losses import cross_entropy, squared_error
from metajax.train import start

RATE, STEPS = 0.1, 3
inner = gradient_steps(optax.sgd(RATE), STEPS, gradient="first_order")


def gradient(learner, batch, params, key=None):
  """In a program of one's own, or as part of one."""
  key = jax.random.key(0) if key is None else key
  return jax.jit(jax.grad(lambda p: learner.loss(p, {}, batch, key)[0]))(params)


def initial_minus_adapted(params, batch):
  """Gradient descent on all of a task's examples, in NumPy, averaged over tasks."""
  found = []
  for task in range(len(batch.support.labels)):
    x, y = (np.concatenate([np.float64(getattr(e, name)[task]) for e in batch]) for name in ("inputs", "labels"))
    weight, bias = np.float64(params["weight"]), np.float64(params["bias"])
    for _ in range(STEPS):
      error = 2 * (x @ weight + bias - y) / len(x)
      weight, bias = weight - RATE * x.T @ error, bias - RATE * error.sum(0)
    found.append((params["weight"] - weight, params["bias"] - bias))
  return {name: np.mean(part, 0) for name, part in zip(("weight", "bias"), zip(*found, strict=True), strict=True)}


def is_reptile(learner):
  """Whether the gradient of a learner's loss is initial minus adapted."""
  batch, params = regressions(0), {"weight": np.float32([[0.7]]), "bias": np.float32([-0.2])}
  found, expected = gradient(learner, batch, params), initial_minus_adapted(params, batch)
  return all(np.allclose(found[name], expected[name], rtol=1e-4, atol=1e-6) for name in params)


def test_reptile_gradient_is_initial_minus_adapted():
  assert is_reptile(reptile(linear(1), inner, loss=squared_error))


@pytest.mark.parametrize("mode", ["mixed", "first_order"])
def test_the_gradient_of_maml_is_not(mode):
  assert not is_reptile(maml(linear(1), gradient_steps(optax.sgd(RATE), STEPS, gradient=mode), loss=squared_error))


def test_a_step_of_gradient_descent_moves_to_the_mean_of_the_adapted():
  batch, learner = regressions(0), reptile(linear(1), inner, loss=squared_error)
  fitted = fit(learner, optax.sgd(1.0), lambda start, shard: iter([batch]), 1, seed=0).params
  first = jax.device_get(jax.jit(lambda: start(learner, optax.sgd(1.0), batch, seed=0).params)())
  moved = initial_minus_adapted(first, batch)
  assert jax.tree.structure(first) == jax.tree.structure(fitted)
  for name in first:
    np.testing.assert_allclose(fitted[name], first[name] - moved[name], rtol=1e-4, atol=1e-6)


def test_its_value_is_the_mean_loss_of_the_inner_loop():
  batch, learner = episodes(0, tasks=1), reptile(linear(3), inner)
  examples = jax.tree.map(lambda s, q: np.concatenate([s[0], q[0]]), *batch)
  loss = lambda params, data: cross_entropy(linear(3).apply(params, {}, data.inputs, train=True)[0], data.labels)

  @jax.jit
  def both():
    params, _ = learner.init(jax.random.key(0), batch)
    return inner(loss, params, examples)[1], learner.loss(params, {}, batch, jax.random.key(0))

  path, (value, (_, metrics)) = jax.device_get(both())
  np.testing.assert_allclose(value, path.mean(), rtol=1e-6)
  np.testing.assert_allclose([metrics["first_loss"], metrics["last_loss"]], path[[0, -1]], rtol=1e-6)


def test_a_head_that_starts_from_zeros_stays_there():
  network = with_head(linear(5), linear(1))
  learner = reptile(network, inner, init_head=zero_init_head)

  @jax.jit
  def run():
    params, state = learner.init(jax.random.key(0), episodes(0))
    return jax.grad(lambda p: learner.loss(p, state, episodes(0), jax.random.key(0))[0])(params)

  found = run()
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(found["head"]))
  assert all(np.any(leaf) for leaf in jax.tree.leaves(found["encoder"]))


@pytest.mark.parametrize(("number", "steps", "rows"), [(10, 5, 4), (6, 7, 5), (4, 2, 4)])
def test_minibatches_go_through_all_examples_before_one_comes_again(number, steps, rows):
  examples = Examples(np.arange(number), np.arange(number))
  draw = jax.jit(lambda examples: [draw_minibatches(jax.random.key(i), examples, steps, rows) for i in range(2)])
  found, other = draw(examples)
  assert found.inputs.shape == (steps, rows)
  np.testing.assert_array_equal(found.inputs, found.labels)
  order = np.asarray(found.inputs).reshape(-1)
  for begin in range(0, len(order), number):
    part = order[begin : begin + number]
    assert len(set(part.tolist())) == len(part)
  assert not np.array_equal(found.inputs, other.inputs)


def test_minibatches_are_drawn_anew_for_each_task_and_step():
  per_step = gradient_steps(optax.sgd(RATE), 2, gradient="first_order", per_step=True)
  learner, batch = reptile(linear(3), per_step, minibatches=(2, 3)), episodes(0)
  same = jax.tree.map(lambda x: np.repeat(x[:1], 2, 0), batch)
  alone = jax.tree.map(lambda x: x[:1], batch)

  params = {"weight": np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), "bias": np.zeros(3, np.float32)}
  slope = jax.jit(lambda batch, key: gradient(learner, batch, params, key)["weight"])
  first, second = (slope(alone, jax.random.key(seed)) for seed in range(2))
  of_same = slope(same, jax.random.key(0))
  assert not np.allclose(first, second)
  assert not np.allclose(of_same, first)


@pytest.mark.parametrize("odd", [(3, 0), (5,), 5])
def test_minibatches_that_are_none_are_refused(odd):
  with pytest.raises(ValueError, match=rf"at least 1 step and 1 row, got {re.escape(str(odd))}$"):
    reptile(linear(3), first_order, minibatches=odd)


def test_a_head_of_other_ways_than_the_labels_is_refused_at_init():
  with pytest.raises(ValueError, match=r"logits \[10, 5\] for labels of 5 ways, got \[10, 3\]"):
    jax.eval_shape(reptile(linear(3), first_order).init, jax.random.key(0), episodes(0, ways=5))
