"""MAML: the meta-gradient is that of the paper, more steps are only another Adapt, and it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table_of_learners import LEARNERS, encoder, episodes, first_order, regressions, reverse

from metajax import Episode, Examples, Network, fit, gradient_steps
from metajax.compose import linear, with_head
from metajax.learners import maml
from metajax.losses import cross_entropy, squared_error

RATE = 0.1


def regression_tasks(tasks=3):
  random = np.random.default_rng(0)
  examples = lambda n: Examples(random.normal(size=(tasks, n, 4)), random.normal(size=(tasks, n, 1)))
  return Episode(examples(6), examples(5))


def with_ones(inputs):
  return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def closed_form(weight, episodes):
  """(loss, exact meta-gradient, first-order one) of one SGD step on a linear regression, averaged over tasks."""
  found = []
  for task in range(len(episodes.support.labels)):
    (x, y), (q, z) = ((with_ones(np.asarray(e.inputs[task])), np.asarray(e.labels[task])) for e in episodes)
    adapted = weight - RATE * 2 / len(x) * x.T @ (x @ weight - y)
    first_order = 2 / len(q) * q.T @ (q @ adapted - z)
    exact = (np.eye(len(weight)) - RATE * 2 / len(x) * x.T @ x) @ first_order
    found.append((np.mean((q @ adapted - z) ** 2), exact, first_order))
  return [np.mean(part, axis=0) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("gradient", ["reverse", "first_order"])
def test_meta_gradient_of_a_linear_regression_is_its_closed_form(gradient):
  batch = regression_tasks()
  learner = maml(linear(1), gradient_steps(optax.sgd(RATE), 1, gradient=gradient), loss=squared_error)
  with jax.enable_x64(True):
    params = {"weight": np.random.default_rng(5).normal(size=(4, 1)), "bias": np.ones(1)}
    run = jax.jit(jax.value_and_grad(learner.loss, has_aux=True))
    (loss, _), found = run(params, {}, batch, jax.random.key(0))
    stack = lambda tree: np.concatenate([tree["weight"], tree["bias"][None]])
    expected_loss, exact, first_order = closed_form(stack(params), batch)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    np.testing.assert_allclose(stack(found), exact if gradient == "reverse" else first_order, rtol=1e-10)
  assert np.abs(exact - first_order).max() > 0.1


def test_more_steps_at_test_time_are_another_adapt_with_the_same_params():
  batch = regressions(0)
  task = jax.tree.map(lambda x: x[0], batch)
  one, twenty = (maml(linear(1), gradient_steps(optax.sgd(RATE), k), loss=squared_error) for k in (1, 20))
  error = lambda outputs: squared_error(outputs, task.support.labels)

  @jax.jit
  def run():
    params, state = one.init(jax.random.key(0), batch)
    at_once, later = (error(l.predict(params, state, task.support, task.support.inputs)) for l in (one, twenty))
    found = twenty.predict(params, state, task.support, task.query.inputs)
    return params, error(one.embed(params, state, task.support.inputs)), at_once, later, found

  params, before, at_once, later, found = run()
  assert later < at_once < before
  x = with_ones(task.support.inputs)
  weight = np.concatenate([params["weight"], params["bias"][None]])
  for _ in range(20):
    weight = weight - RATE * 2 / len(x) * x.T @ (x @ weight - task.support.labels)
  np.testing.assert_allclose(found, with_ones(task.query.inputs) @ weight, rtol=1e-4, atol=1e-5)


def test_inner_loss_is_the_one_of_the_support_alone():
  batch = regressions(0)
  flat = lambda outputs, targets: 0.0 * jnp.sum(outputs)  # nothing to learn from the support
  learner = maml(linear(1), gradient_steps(optax.sgd(RATE), 2), loss=squared_error, inner_loss=flat)
  params = {"weight": np.float32([[0.7]]), "bias": np.float32([-0.2])}
  loss, (_, metrics) = jax.jit(learner.loss)(params, {}, batch, jax.random.key(0))
  outputs = batch.query.inputs @ params["weight"] + params["bias"]
  np.testing.assert_allclose(loss, np.mean(np.square(outputs - batch.query.labels)), rtol=1e-5)
  assert metrics == {"support_loss": 0.0}


def test_training_lowers_the_loss_on_new_tasks():
  learner, batch, losses = LEARNERS["maml"].learner, LEARNERS["maml"].batch, []
  batches = lambda start, shard: map(batch, range(start, 50))
  fit(learner, optax.adam(0.01), batches, 50, log=lambda step, metrics: losses.append(metrics["loss"]), log_every=10)
  assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("adapt", [reverse, first_order])
def test_a_head_of_other_ways_than_the_labels_is_refused_at_init(adapt):
  learner = maml(with_head(encoder, linear(3)), adapt)
  with pytest.raises(ValueError, match=r"expected logits \[10, 5\] for labels of 5 ways, got \[10, 3\]"):
    learner.init(jax.random.key(0), episodes(0, ways=5))


def test_a_head_of_other_ways_than_the_labels_is_refused_at_test():
  learner = maml(with_head(encoder, linear(3)), reverse)
  params, state = jax.eval_shape(learner.init, jax.random.key(0), episodes(0))
  support, query = jax.tree.map(lambda x: x[0], episodes(0, ways=5))
  with pytest.raises(ValueError, match=r"for labels of 5 ways, got \[10, 3\]"):
    jax.eval_shape(learner.predict, params, state, support, query.inputs)


def test_targets_of_another_width_than_the_outputs_are_refused_at_init():
  learner = maml(linear(2), reverse, loss=squared_error)
  with pytest.raises(ValueError, match=r"expected outputs \[4, 1\] like the targets, got \[4, 2\]"):
    learner.init(jax.random.key(0), regressions(0))


def centered(width):
  """A linear network that takes the mean of its batch away, as batch norm does."""
  plain = linear(width)

  def apply(params, state, inputs, *, train, key=None):
    outputs, _ = plain.apply(params, state, inputs, train=train)
    return outputs - outputs.mean(0) * train, state

  return Network(plain.init, apply)


def test_batch_statistics_are_those_of_the_queries_that_are_asked_together():
  batch = episodes(0)
  learner = maml(centered(3), reverse, loss=cross_entropy)
  support, query = jax.tree.map(lambda x: x[0], batch)

  @jax.jit
  def run():
    at = learner.init(jax.random.key(0), batch)
    return [learner.predict(*at, support, inputs) for inputs in (query.inputs, query.inputs[:3])]

  whole, three = jax.device_get(run())
  np.testing.assert_allclose(whole.mean(0), 0, atol=1e-6)
  assert not np.allclose(whole[:3], three, atol=1e-3)
