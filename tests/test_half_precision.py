"""Params, features and logits of 16 bits: norms, guards and sums are those of 32, which float16 could not hold."""

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
  normalised_patches,
  squared_error,
  squared_error_of_scores,
  triplet_margin,
)
from metajax.predictors import centroid_logits, class_means, cosines, nearest_logits, squared_distances

HALF = jnp.float16
START = jnp.ones(2, HALF)
MODES = ("mixed", "reverse", "first_order")


def moved(optimizer, slope, gradient, steps=1):
  """How far params of float16 move from 1, 1 by a constant inner gradient."""
  adapt = gradient_steps(optimizer, steps, gradient=gradient)
  found, _ = adapt(lambda params, slope: jnp.vdot(params, slope), START, jnp.asarray(slope, HALF))
  return np.asarray(START - found)


@pytest.mark.parametrize("gradient", MODES)
def test_clipping_by_the_norm_moves_float16_params_by_the_gradient_alone(gradient):
  clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
  np.testing.assert_array_equal(moved(clipped, [0, 0.5], gradient), [0, 0.5])
  np.testing.assert_allclose(moved(clipped, [300, 400], gradient), [0.6, 0.8], rtol=1e-3)  # of squares beyond float16


@pytest.mark.parametrize("gradient", MODES)
def test_adam_moves_float16_params_as_those_of_32_bits(gradient):
  """Of float16 its eps is 0, and the square of a small gradient: a step would be 0 / 0."""
  rates = {"eps_root": 1e-2} if gradient != "first_order" else {}
  expected = np.asarray(
    gradient_steps(optax.adam(0.1, **rates), 3, gradient=gradient)(jnp.vdot, jnp.ones(2), jnp.array([0, 1e-4]))[0]
  )
  np.testing.assert_allclose(moved(optax.adam(0.1, **rates), [0, 1e-4], gradient, 3), 1 - expected, atol=2e-3)


def test_the_meta_gradient_of_a_clipped_loop_in_float16_is_that_of_32_bits():
  clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5))
  loss = lambda params, data: jnp.sum(jnp.square(params - data)) / 2
  run = lambda start, data: gradient_steps(clipped, 2)(loss, start, data)[0].astype(jnp.float32) @ jnp.array([1.0, 2.0])
  slope = jax.jit(jax.grad(run))
  data = np.array([3.0, 1.0])  # of which one gradient is 0
  half = slope(START, jnp.asarray(data, HALF))
  np.testing.assert_allclose(half, slope(jnp.ones(2), jnp.asarray(data, jnp.float32)), rtol=5e-3)


def test_conjugate_gradients_and_the_pull_of_float16_are_summed_in_32_bits():
  hessian, minimum = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32), np.array([3.0, -200.0])
  loss = lambda params, at: ((params - at) @ jnp.asarray(hessian, HALF) @ (params - at)).astype(jnp.float32) / 2
  start, at = jnp.zeros(2, HALF), jnp.asarray(minimum, HALF)
  found, _ = newton(1, damping=0.0)(loss, start, at)
  np.testing.assert_allclose(found, minimum, rtol=5e-3)
  found, _ = implicit(optax.sgd(0.2), 50, 1.0)(loss, start, at)
  np.testing.assert_allclose(found, np.linalg.solve(hessian + np.eye(2), hessian @ minimum), rtol=5e-3)


random = np.random.default_rng(0)
FAR = random.normal(size=(6, 8)) * 200  # squares of differences sum to more than 65,504
LABELS = np.eye(3)[[0, 0, 1, 1, 2, 2]]
ARRAYS = {
  "unit_rows": (unit_rows, random.normal(size=(2, 70000))),  # whose squares do, too
  "squared_error": (lambda x: squared_error(x, -x), FAR),
  "squared_error_of_scores": (lambda x: squared_error_of_scores(x[:, :3], LABELS), FAR),
  "triplet_margin": (lambda x: triplet_margin(x, x[::-1], 0 * x, 1.0), FAR),
  "batch_hard": (lambda x: batch_hard(squared_distances(x, x), LABELS), FAR),
  "normalised_patches": (normalised_patches, FAR),
  "masked_reconstruction": (lambda x: masked_reconstruction(x[None], -x[None], np.ones((1, 6))), FAR),
  "squared_distances": (lambda x: squared_distances(x, x[::-1]), FAR),
  "centroid_logits": (lambda x: centroid_logits(x, LABELS, -x), FAR),
  "nearest_logits": (lambda x: nearest_logits(x, LABELS, -x), FAR),
  "cosines": (lambda x: cosines(x, x[::-1]), FAR),
  "class_means": (lambda x: class_means(x, LABELS), np.full((6, 2), 40000.0)),
}


@pytest.mark.parametrize("kind", [jnp.float16, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_made_of_16_bits_is_what_is_made_of_the_same_numbers_in_32(name, kind):
  function, given = ARRAYS[name]
  half = jnp.asarray(given, kind)
  found, expected = function(half), function(half.astype(jnp.float32))
  assert np.isfinite(expected).all()
  np.testing.assert_allclose(np.float32(found), expected, rtol=1e-2, atol=1e-3 * float(np.abs(expected).max()))


def test_a_mean_over_more_rows_than_float16_counts_is_right():
  rows = 70_000
  logits, labels = (jnp.broadcast_to(jnp.array(x, HALF), (rows, 2)) for x in ([1, 0], [1, 0]))
  np.testing.assert_allclose(cross_entropy(logits, labels), np.log1p(np.exp(-1)), rtol=1e-5)
  np.testing.assert_allclose(binary_cross_entropy(logits[:, 0], labels), np.log1p(np.exp(1)), rtol=1e-5)
  assert accuracy(logits, labels) == 1
