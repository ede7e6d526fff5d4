"""Params, features and logits of 16 bits: norms, guards and sums are those of 32, which float16 could not hold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import gradient_steps
from metajax.adapt import implicit, newton
from metajax.compose import unit_rows
from metajax.losses import (
  accuracy,
  batch_hard,
  binary_cross_entropy,
  cross_entropy,
  masked_reconstruction,
  mse,
  normalized_patches,
  squared_error,
  triplet_margin,
)
from metajax.predictors import centroid_logits, class_means, cosines, nearest_logits, squared_distances

HALF = jnp.float16
MODES = ("mixed", pytest.param("reverse", marks=pytest.mark.slow), "first_order")


def moved(optimizer, slopes, gradient, kind, steps=1):
  """How far params move from 1, 1 by each of some constant inner gradients."""
  adapt = gradient_steps(optimizer, steps, gradient=gradient)
  run = lambda slope: 1 - adapt(lambda params, slope: jnp.vdot(params, slope), jnp.ones(2, kind), slope)[0]
  return np.asarray(jax.jit(jax.vmap(run))(np.asarray(slopes, kind)))


@pytest.mark.parametrize("gradient", MODES)
def test_clipping_by_the_norm_moves_float16_params_by_the_gradient_alone(gradient):
  """That of 300 and 400 has squares beyond float16."""
  clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
  found = moved(clipped, [[0, 0.5], [300, 400]], gradient, HALF)
  np.testing.assert_allclose(found, [[0, 0.5], [0.6, 0.8]], rtol=1e-3)
  assert found[0, 0] == 0


@pytest.mark.parametrize(
  "gradient", [*(pytest.param(m, marks=pytest.mark.slow) for m in ("mixed", "reverse")), "first_order"]
)
def test_adam_moves_float16_params_as_those_of_32_bits(gradient):
  """Of float16 its eps is 0, and the square of a small gradient: a step would be 0 / 0."""
  adam = optax.adam(0.1, eps_root=1e-2 if gradient != "first_order" else 0.0)
  half, full = (moved(adam, [[0, 1e-4]], gradient, kind, 3) for kind in (HALF, jnp.float32))
  np.testing.assert_allclose(half, full, atol=2e-3)


def test_the_meta_gradient_of_a_clipped_loop_in_float16_is_that_of_32_bits():
  clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5))
  loss = lambda params, data: jnp.sum(jnp.square(params - data)) / 2
  weights, data = np.array([1.0, 2.0], np.float32), np.array([3.0, 1.0])  # of which one gradient is 0
  adapt = gradient_steps(clipped, 2)
  slope = jax.grad(lambda start, data: adapt(loss, start, data)[0].astype(jnp.float32) @ weights)
  half, full = jax.jit(lambda: [slope(jnp.ones(2, kind), jnp.asarray(data, kind)) for kind in (HALF, jnp.float32)])()
  np.testing.assert_allclose(half, full, rtol=5e-3)


def test_conjugate_gradients_and_the_pull_of_float16_are_summed_in_32_bits():
  hessian, minimum = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32), np.array([3.0, -200.0])
  loss = lambda params, at: ((params - at) @ jnp.asarray(hessian, HALF) @ (params - at)).astype(jnp.float32) / 2
  adapts = newton(1, damping=0.0), implicit(optax.sgd(0.2), 50, 1.0)
  start, at = np.zeros(2, HALF), minimum.astype(HALF)
  by_newton, pulled = jax.jit(lambda: [adapt(loss, start, at)[0] for adapt in adapts])()
  np.testing.assert_allclose(by_newton, minimum, rtol=5e-3)
  np.testing.assert_allclose(pulled, np.linalg.solve(hessian + np.eye(2), hessian @ minimum), rtol=5e-3)


random = np.random.default_rng(0)
FAR = random.normal(size=(6, 8)) * 200  # squares of differences sum to more than 65,504
LABELS = np.eye(3)[[0, 0, 1, 1, 2, 2]]
ARRAYS = {
  "unit_rows": (unit_rows, random.normal(size=(2, 70000))),  # whose squares do, too
  "squared_error": (lambda x: squared_error(x, -x), FAR),
  "mse": (lambda x: mse(x[:, :3], LABELS), FAR),
  "triplet_margin": (lambda x: triplet_margin(x, x[::-1], 0 * x, 1.0), FAR),
  "batch_hard": (lambda x: batch_hard(squared_distances(x, x), LABELS), FAR),
  "normalized_patches": (normalized_patches, FAR),
  "masked_reconstruction": (lambda x: masked_reconstruction(x[None], -x[None], np.ones((1, 6))), FAR),
  "squared_distances": (lambda x: squared_distances(x, x[::-1]), FAR),
  "centroid_logits": (lambda x: centroid_logits(x, LABELS, -x), FAR),
  "nearest_logits": (lambda x: nearest_logits(x, LABELS, -x), FAR),
  "cosines": (lambda x: cosines(x, x[::-1]), FAR),
  "class_means": (lambda x: class_means(x, LABELS), np.full((6, 2), 40000.0)),
}


@functools.cache
def of_all(kind):
  """Of each function: what it makes of numbers of 16 bits, and of the same in 32."""

  def both(name):
    function, given = ARRAYS[name]
    half = given.astype(kind)
    return function(jnp.asarray(half)), function(jnp.asarray(half, jnp.float32))

  return jax.device_get(jax.jit(lambda: {name: both(name) for name in ARRAYS})())


@pytest.mark.parametrize("kind", [jnp.float16, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_made_of_16_bits_is_what_is_made_of_the_same_numbers_in_32(name, kind):
  found, expected = of_all(kind)[name]
  assert np.isfinite(expected).all()
  np.testing.assert_allclose(np.float32(found), expected, rtol=1e-2, atol=1e-3 * float(np.abs(expected).max()))


def test_a_mean_over_more_rows_than_float16_counts_is_right():
  logits, labels = (np.broadcast_to(np.array(x, HALF), (70_000, 2)) for x in ([1, 0], [1, 0]))
  of_both = jax.jit(lambda z, y: (cross_entropy(z, y), binary_cross_entropy(z[:, 0], y), accuracy(z, y)))
  np.testing.assert_allclose(of_both(logits, labels), [np.log1p(np.exp(-1)), np.log1p(np.exp(1)), 1], rtol=1e-5)
