"""What an inner loss may hold: its meta-gradient, forward over reverse, is the one in reverse."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table_of_learners import classifier, episodes

from metajax import fit, gradient_steps
from metajax.learners import maml

INPUTS, TARGETS = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
PARAMS = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(2).uniform(0.5, 2, size=6).astype(np.float32)


def error(outputs, weights):
  return jnp.mean(weights[:, None] * jnp.square(outputs - TARGETS))


@jax.custom_jvp
def softsign(x):
  return x / (1 + jnp.abs(x))


softsign.defjvp(lambda primals, tangents: (softsign(primals[0]), tangents[0] / (1 + jnp.abs(primals[0])) ** 2))


@jax.custom_vjp
def own_cube(x):
  return x**3


own_cube.defvjp(lambda x: (x**3, x), lambda x, bar: (bar * 3 * x**2,))


def with_integers(weights, rows):
  return lambda p, _: error(jnp.tanh(INPUTS @ p)[rows], weights) + rows[0]


def with_keys(weights, typed, raw):
  def loss(p, _):
    keep = jax.random.bernoulli(typed, 0.7, (6, 3)) | jax.random.bernoulli(raw, 0.2, (6, 3))
    return error(jnp.tanh(INPUTS @ p) * keep, weights)

  return loss


def with_state(weights, state):
  def loss(p, _):
    outputs = jnp.tanh(INPUTS @ p)
    mean = jnp.where(state["count"] > 3, state["mean"], outputs.mean(0))
    return error((outputs - mean) * (1 + state["none"] if state["none"] else 1), weights)

  return loss


def with_scan_and_checkpoint(weights):
  block = jax.checkpoint(lambda x, scale: (x + jnp.tanh(scale * x @ x.T @ x / 9), jnp.sum(x)))

  def loss(p, _):
    outputs, sums = jax.lax.scan(block, INPUTS @ p, jnp.linspace(0.1, 0.5, 3))
    return error(outputs, weights) + 0.01 * jnp.sum(sums)

  return loss


def with_cond_and_while(weights, count):
  def loss(p, _):
    rounds = jax.lax.while_loop(lambda i: i < count, lambda i: i + 2, 0)
    outputs = jax.lax.cond(rounds > 3, jnp.tanh, jnp.sin, INPUTS @ p)
    return error(jax.lax.fori_loop(0, 2, lambda i, x: jnp.sin(x) + i, outputs), weights)

  return loss


def with_jit_and_vmap(weights):
  row = jax.jit(lambda p, x: jnp.tanh(x @ p))
  return lambda p, _: error(jax.vmap(row, (None, 0))(p, INPUTS), weights)


KEY = jax.random.key(0)
LOSSES = {  # of differentiated weights
  "integers": lambda w: with_integers(w, jnp.arange(6)[::-1]),
  "keys": lambda w: with_keys(w, KEY, jax.random.PRNGKey(1)),
  "a network's state": lambda w: with_state(w, {"count": jnp.int32(4), "mean": w[:3], "none": None, "empty": ()}),
  "scan and remat": with_scan_and_checkpoint,
  "cond and while": lambda w: with_cond_and_while(w, jnp.int32(5)),
  "custom_jvp": lambda w: lambda p, _: error(softsign(INPUTS @ p), w),
  "custom_vjp": lambda w: lambda p, _: error(own_cube(INPUTS @ p / 4), w),
  "jit and vmap": with_jit_and_vmap,
  "no weight but a constant": lambda w: lambda p, _: error(jnp.tanh(INPUTS @ p), np.ones(6, np.float32)) + w.sum(),
  "a derivative of its own": lambda w: lambda p, _: error(jax.grad(lambda x: jnp.sum(jnp.sin(x @ p)))(INPUTS), w),
  "a solve": lambda w: lambda p, _: error(INPUTS @ jnp.linalg.solve(p @ p.T + jnp.eye(3), p), w),
}


def meta_gradient(make, gradient, params, weights, data=()):
  """By the initial parameters and the weights, which may be traced through whatever else the loss closes over."""

  def run(params, weights):
    adapted, losses = gradient_steps(optax.sgd(0.05), 3, gradient=gradient)(make(weights), params, data)
    return sum(jnp.sum(jnp.sin(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(adapted)) + losses.sum()

  return jax.grad(run, (0, 1))(params, weights)


def both(make, params=PARAMS, weights=WEIGHTS, data=()):
  run = lambda *at: [meta_gradient(make, gradient, *at) for gradient in ("mixed", "reverse")]
  return jax.jit(run)(params, weights, data)


@pytest.mark.parametrize("name", LOSSES)
def test_mixed_is_reverse_whatever_the_loss_holds(name):
  mixed, reverse = both(LOSSES[name])
  assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(reverse))
  chex.assert_trees_all_close(mixed, reverse, rtol=2e-5, atol=2e-5)


def test_what_the_loss_closes_over_may_be_traced_by_another_transformation():
  """A key and an integer of each task, under vmap: they must not leak."""

  def one(key, rows):
    return meta_gradient(lambda w: with_keys(w[rows], key, jax.random.PRNGKey(1)), "mixed", PARAMS, WEIGHTS)

  @jax.jit
  def both_ways(rows):
    keys = jax.random.split(KEY, 2)
    return jax.vmap(one)(keys, rows), one(keys[1], rows[1])

  found, expected = both_ways(np.stack([np.arange(6), np.arange(6)[::-1]]))
  chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], found), expected, rtol=1e-5, atol=1e-6)


def test_integers_keys_and_nothing_may_be_data():
  def make(weights):
    def loss(params, data):
      assert data["none"] is None and data["empty"] == {}
      noise = jax.random.normal(data["key"], (6, 3))
      outputs = jnp.tanh(INPUTS @ params["w"] + 0.1 * noise)[data["rows"]]
      return error(outputs, weights)

    return loss

  data = {"key": KEY, "rows": np.arange(6)[::-1], "none": None, "empty": {}}
  mixed, reverse = both(make, {"w": PARAMS, "none": None, "empty": ()}, WEIGHTS, data)
  assert jax.tree.structure(mixed[0]) == jax.tree.structure({"w": 0, "none": None, "empty": ()})
  chex.assert_trees_all_close(mixed, reverse, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
  ("params", "weights"), [(jnp.bfloat16, jnp.bfloat16), (jnp.float32, jnp.bfloat16), (jnp.bfloat16, jnp.float32)]
)
def test_half_precision_keeps_its_types(params, weights):
  make = lambda w: lambda p, data: jnp.mean(w[:, None] * jnp.square(jnp.tanh(data @ p) - 0.5))
  mixed, reverse = both(make, PARAMS.astype(params), WEIGHTS.astype(weights), INPUTS.astype(jnp.bfloat16))
  chex.assert_trees_all_equal_shapes_and_dtypes(mixed, reverse)
  assert mixed[0].dtype == params and mixed[1].dtype == weights
  chex.assert_trees_all_close(*jax.tree.map(np.float32, (mixed, reverse)), rtol=0.1, atol=0.02)


def test_no_parameters_at_all_are_adapted_to_none():
  adapted, path = gradient_steps(optax.sgd(0.1), 2)(lambda params, data: jnp.sum(data), {}, WEIGHTS)
  assert adapted == {} and path.shape == (2,)


def callback(fn, x):
  return jax.pure_callback(fn, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


@jax.custom_vjp
def outside_cosine(x):
  return callback(np.cos, x)


@jax.custom_vjp
def outside_sine(x):
  return callback(np.sin, x)


outside_cosine.defvjp(lambda x: (outside_cosine(x), x), lambda x, bar: (-bar * jnp.sin(x),))
outside_sine.defvjp(lambda x: (outside_sine(x), x), lambda x, bar: (bar * outside_cosine(x),))


def test_an_operation_without_forward_mode_is_refused_under_mixed_and_right_under_reverse():
  through = lambda sine: lambda w: lambda p, _: error(sine(INPUTS @ p), w)
  with pytest.raises(TypeError, match=r'without a forward-mode derivative .*: use gradient="reverse"'):
    jax.eval_shape(lambda: meta_gradient(through(outside_sine), "mixed", PARAMS, WEIGHTS))
  of = lambda params, weights: [meta_gradient(through(f), "reverse", params, weights) for f in (outside_sine, jnp.sin)]
  found, expected = jax.jit(of)(PARAMS, WEIGHTS)
  chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_maml_trains_the_same_with_mixed_and_with_reverse():
  def losses(gradient):
    found = []
    learner = maml(classifier, gradient_steps(optax.sgd(0.1), 3, gradient=gradient))
    batches = lambda start, shard: map(episodes, range(start, 50))
    fit(learner, optax.adam(0.01), batches, 50, log=lambda step, m: found.append(m["loss"]), log_every=1)
    return np.array(found)

  mixed, reverse = losses("mixed"), losses("reverse")
  assert len(mixed) == 50 and mixed[-5:].mean() < 0.8 * mixed[:5].mean()
  np.testing.assert_allclose(mixed, reverse, atol=1e-3)
