"""Implicit and Newton steps: on quadratics they are their closed forms, elsewhere finite differences agree."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from finite_differences import check_slope

from metajax.adapt import implicit, newton

SIZE, STRENGTH = 4, 2.0


pytestmark = pytest.mark.usefixtures("float64")


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


HESSIAN = draw(0, SIZE, SIZE) @ draw(0, SIZE, SIZE).T / SIZE + np.eye(SIZE) / 4
START, CENTER = draw(1, SIZE), draw(2, SIZE)
INDEFINITE = HESSIAN - np.eye(SIZE) * np.mean(np.linalg.eigvalsh(HESSIAN)[:2])


def run_on_quadratic(adapt, hessian=HESSIAN):
  """The adapted parameters, and their derivatives by the start and by the center that the loss closes over."""

  def run(start, center):
    loss = lambda params, data: 0.5 * (params - center) @ hessian @ (params - center)
    return adapt(loss, start, ())[0]

  return jax.jit(lambda *at: (run(*at), *jax.jacrev(run, (0, 1))(*at)))(START, CENTER)


def close(found, expected, tolerance=1e-9):
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def implicit_minimum(damping):
  """The closed form of a quadratic's minimum, and its derivatives by the start and by the center."""
  minimum = np.linalg.solve(HESSIAN + STRENGTH * np.eye(SIZE), HESSIAN @ CENTER + STRENGTH * START)
  inverse = np.linalg.inv(HESSIAN + (STRENGTH + damping) * np.eye(SIZE))
  return minimum, STRENGTH * inverse, inverse @ HESSIAN


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_implicit_on_a_quadratic_is_its_closed_form(damping):
  """The minimum is (H + s)^-1 (H c + s p), its derivatives s (H + s)^-1 = (1 + H / s)^-1 and (H + s)^-1 H."""
  adapt = implicit(optax.sgd(0.2), 300, STRENGTH, cg_steps=SIZE, damping=damping)
  expected = implicit_minimum(damping)
  close(run_on_quadratic(adapt), expected)
  if not damping:
    np.testing.assert_allclose(expected[1], np.linalg.inv(np.eye(SIZE) + HESSIAN / STRENGTH), rtol=1e-12)


@pytest.mark.parametrize(
  "optimizer",
  [optax.adam(optax.exponential_decay(0.1, 100, 0.3)), optax.sgd(0.1, momentum=0.5)],
  ids=["adam", "momentum"],
)
def test_implicit_does_not_depend_on_the_optimizer_that_found_the_minimum(optimizer):
  close(run_on_quadratic(implicit(optimizer, 1500, STRENGTH, cg_steps=SIZE)), implicit_minimum(0.0), 1e-6)


def test_the_path_of_implicit_is_the_pulled_loss_without_a_derivative():
  loss = lambda params, data: 0.5 * jnp.sum((params - data) ** 2)
  run = lambda start: implicit(optax.sgd(0.1), 3, STRENGTH)(loss, start, CENTER)[1]
  p, expected = START, []
  for _ in range(3):
    expected.append(0.5 * np.sum((p - CENTER) ** 2) + STRENGTH / 2 * np.sum((p - START) ** 2))
    p = p - 0.1 * (p - CENTER + STRENGTH * (p - START))
  found, slope = jax.jit(lambda start: (run(start), jax.jacrev(run)(start)))(START)
  np.testing.assert_allclose(found, expected, rtol=1e-12)
  assert not np.any(slope)


@pytest.mark.parametrize(
  ("steps", "damping", "rate", "hessian"),
  [(1, 0.0, 1.0, HESSIAN), (1, 0.3, 1.0, HESSIAN), (3, 0.3, 0.7, HESSIAN), (2, 2.0, 1.0, INDEFINITE)],
)
def test_newton_on_a_quadratic_is_its_closed_form(steps, damping, rate, hessian):
  """Each step is p - c <- (1 - r (H + d)^-1 H) (p - c); without damping and with a rate of 1 it is there at once."""
  shrink = np.eye(SIZE) - rate * np.linalg.solve(hessian + damping * np.eye(SIZE), hessian)
  power = np.linalg.matrix_power(shrink, steps)
  adapt = newton(steps, cg_steps=2 * SIZE, damping=damping, learning_rate=rate)
  close(run_on_quadratic(adapt, hessian), (CENTER + power @ (START - CENTER), power, np.eye(SIZE) - power))


INPUTS, LABELS = draw(3, 12, SIZE), np.sign(draw(4, 12))


def logistic(params, data):
  """Strictly convex: a logistic regression with a ridge."""
  inputs, labels = data
  outputs = inputs @ params["weight"] + params["bias"]
  return (
    jnp.mean(jax.nn.softplus(-labels * outputs)) + 0.05 * jnp.sum(params["weight"] ** 2) + 0.05 * params["bias"] ** 2
  )


@pytest.mark.parametrize(
  "adapt",
  [
    implicit(optax.sgd(0.7), 200, 0.5, cg_steps=12),
    newton(2, cg_steps=12, damping=0.0),
    newton(2, cg_steps=12, damping=0.1, learning_rate=0.5),
  ],
  ids=["implicit", "newton", "damped newton"],
)
def test_derivatives_are_those_of_finite_differences(adapt):
  """By the start, by what the loss closes over and by the data."""

  def run(at):
    params, scale, inputs = at
    adapted, _ = adapt(lambda params, data: logistic(params, (scale * data[0], data[1])), params, (inputs, LABELS))
    return jnp.sum(jnp.sin(adapted["weight"])) + adapted["bias"]

  at = {"weight": draw(5, SIZE), "bias": np.array(0.3)}, draw(6, SIZE), INPUTS
  check_slope(jax.jit(jax.value_and_grad(run)), at)


def test_a_system_of_more_steps_than_it_has_digits_stays_finite():
  loss = lambda params, data: 0.5 * jnp.sum(params**2)
  adapts = newton(3, cg_steps=50), implicit(optax.sgd(0.1), 50, 1.0, cg_steps=50)
  of = lambda adapt: jax.grad(lambda p: jnp.sum(adapt(loss, p, ())[0]))
  with jax.enable_x64(False):
    slopes = jax.jit(lambda p: [of(adapt)(p) for adapt in adapts])(np.ones(3, np.float32))
  assert np.isfinite(slopes).all()


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: implicit(optax.sgd(0.1), 0, 1.0), "expected steps to be a whole number of at least 1, got 0"),
    (lambda: newton(0), "expected steps to be a whole number of at least 1, got 0"),
    (lambda: newton(True), "expected steps to be a whole number of at least 1, got True"),
    (lambda: implicit(optax.sgd(0.1), 1, 0.0), "expected proximal_strength above 0, got 0.0"),
    (lambda: implicit(optax.sgd(0.1), 1, -1.0), "expected proximal_strength above 0, got -1.0"),
    (lambda: implicit(optax.sgd(0.1), 1, float("nan")), "expected proximal_strength above 0, got nan"),
    (
      lambda: implicit(optax.sgd(0.1), 1, 1.0, cg_steps=0),
      "expected cg_steps to be a whole number of at least 1, got 0",
    ),
    (lambda: newton(1, cg_steps=0), "expected cg_steps to be a whole number of at least 1, got 0"),
    (lambda: implicit(optax.sgd(0.1), 1, 1.0, damping=-1e-3), "expected a damping of at least 0, got -0.001"),
    (lambda: newton(1, damping=-1e-3), "expected a damping of at least 0, got -0.001"),
  ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(make, said):
  with pytest.raises(ValueError, match=re.escape(said)):
    make()


@pytest.mark.parametrize("adapt", [implicit(optax.sgd(0.1), 1, 1.0), newton(1)], ids=["implicit", "newton"])
def test_what_has_no_gradient_is_refused_when_called(adapt):
  with pytest.raises(ValueError, match="inner loss to be a scalar"):
    adapt(lambda params, data: params, np.ones(2), ())
  with pytest.raises(TypeError, match=r"got int64 at params\[1\]"):
    adapt(lambda params, data: 0.0, [np.ones(2), np.arange(2)], ())
