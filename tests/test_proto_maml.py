"""Proto-MAML: the head starts as a prototypical network's, and gradients pass through the prototypes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from finite_differences import check_slope
from table_of_learners import episodes, tanh_layer

from metajax import gradient_steps
from metajax.adapt import identity, only
from metajax.learners import proto_maml, prototypical
from metajax.losses import cross_entropy

KEY, encoder = jax.random.key(1), tanh_layer(5)


def close(first, second, tolerance=1e-4):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=1e-5), first, second)


def value_and_grad(learner, params, state, batch):
  """To be called in a program."""
  return jax.value_and_grad(lambda p: learner.loss(p, state, batch, KEY)[0])(params)


def test_without_a_step_it_is_a_prototypical_network():
  """The same loss, gradient and, but for what all ways have in common, logits."""
  batch, ours, theirs = episodes(0), proto_maml(encoder, identity), prototypical(encoder)
  support, query = jax.tree.map(lambda x: x[0], batch)

  @jax.jit
  def both():
    params, state = ours.init(jax.random.key(0), batch)
    wrapped = {"encoder": params, "head": {}}, {"encoder": state, "head": {}}
    of = lambda learner, *at: (value_and_grad(learner, *at, batch), learner.predict(*at, support, query.inputs))
    return of(ours, params, state), of(theirs, *wrapped)

  (loss_and_slope, found), ((loss, slope), expected) = jax.device_get(both())
  close(loss_and_slope, (loss, slope["encoder"]))
  centered = lambda logits: logits - logits.mean(-1, keepdims=True)
  close(centered(found), centered(expected))


def test_a_step_is_the_papers():
  """From `W_k = 2 c_k, b_k = -|c_k|^2`, one step of gradient descent of all, written out."""
  batch, rate = episodes(0), 0.05
  learner = proto_maml(encoder, gradient_steps(optax.sgd(rate), 1))
  embed = lambda theta, x: encoder.apply(theta, {}, x, train=True)[0]

  def slow(theta, task):
    support, query = task
    c = jnp.stack([(embed(theta, support.inputs) * support.labels[:, k : k + 1]).sum(0) / 2 for k in range(3)])
    start = (theta, 2 * c.T, -(c**2).sum(1))
    error = lambda fast: cross_entropy(embed(fast[0], support.inputs) @ fast[1] + fast[2], support.labels)
    phi, weight, bias = jax.tree.map(lambda x, g: x - rate * g, start, jax.grad(error)(start))
    return cross_entropy(embed(phi, query.inputs) @ weight + bias, query.labels)

  @jax.jit
  def both():
    params, state = learner.init(jax.random.key(0), batch)
    written_out = jax.value_and_grad(lambda p: jax.vmap(slow, (None, 0))(p, batch).mean())
    return value_and_grad(learner, params, state, batch), written_out(params)

  close(*both())


def test_gradient_is_that_of_finite_differences(float64):
  batch = jax.tree.map(np.float64, episodes(0))
  learner = proto_maml(encoder, gradient_steps(optax.sgd(0.1), 2))
  params, state = jax.jit(learner.init)(jax.random.key(0), batch)
  check_slope(jax.jit(lambda p: value_and_grad(learner, p, state, batch)), jax.tree.map(np.float64, params))


def test_a_way_without_support_is_never_chosen_and_loses_no_gradient():
  batch = jax.tree.map(np.array, episodes(0))
  empty = lambda part: part._replace(labels=part.labels * np.array([1, 1, 0], np.float32))
  batch = batch._replace(support=empty(batch.support), query=empty(batch.query))
  learner = proto_maml(encoder, only("head", gradient_steps(optax.sgd(0.5), 3)))
  support, query = jax.tree.map(lambda x: x[0], batch)

  @jax.jit
  def run():
    params, state = learner.init(jax.random.key(0), batch)
    return *value_and_grad(learner, params, state, batch), learner.predict(params, state, support, query.inputs)

  loss, slope, logits = run()
  assert np.isfinite(loss) and all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slope))
  assert np.all(np.asarray(logits)[:, 2] < -1e8)
