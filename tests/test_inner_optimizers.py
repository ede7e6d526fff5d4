"""Inner loops of the commands: each optimizer takes its own steps, and the meta-gradient passes through all of them."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.families.few_shot.inner_loop import DAMPING, InnerLoop, InnerOptimizer

RATE, STEPS = 0.3, 3
CURVATURE, TARGET, START = (np.float32(x) for x in ([1.0, 0.5, 2.0], [0.3, -0.2, 0.7], [1.0, -1.0, 0.4]))
OF_OPTAX = {
  "sgd": optax.sgd(RATE),
  "momentum": optax.sgd(RATE, momentum=0.9),
  "adam": optax.adam(RATE, eps_root=RATE**2),
  "rmsprop": optax.rmsprop(RATE, eps=RATE**2),
}


def loss(params, target):
  return 0.5 * jnp.sum(CURVATURE * jnp.square(params - target))


def unrolled(optimizer, params, target):
  """The steps as a loop of Python, which plain JAX differentiates."""
  state = optimizer.init(params)
  for _ in range(STEPS):
    updates, state = optimizer.update(jax.grad(loss)(params, target), state, params)
    params = optax.apply_updates(params, updates)
  return params


def meta_gradient(adapted):
  """The adapted parameters, and the derivatives of a query loss by the start and by the task."""
  query = lambda params, target: jnp.sum(jnp.sin(adapted(params, target)))
  return jax.jit(lambda *given: (adapted(*given), jax.grad(query, (0, 1))(*given)))(START, TARGET)


@pytest.mark.parametrize("name", OF_OPTAX)
def test_steps_and_their_meta_gradient_are_those_of_an_unrolled_loop_of_optax(name):
  adapt = InnerLoop(RATE, STEPS, STEPS, name).adapt(STEPS)
  found = meta_gradient(lambda params, target: adapt(loss, params, target)[0])
  expected = meta_gradient(lambda params, target: unrolled(OF_OPTAX[name], params, target))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), found, expected)


def test_a_step_of_newton_solves_the_damped_system_and_is_differentiated_as_its_solution():
  adapt = InnerLoop(RATE, 1, 1, "newton").adapt(1)
  found = meta_gradient(lambda params, target: adapt(loss, params, target)[0])
  solved = lambda params, target: params - RATE * CURVATURE / (CURVATURE + DAMPING) * (params - target)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), found, meta_gradient(solved))


def test_every_choice_is_tested_and_newton_without_second_derivatives_is_refused():
  assert {*OF_OPTAX, "newton"} == set(get_args(InnerOptimizer))
  with pytest.raises(ValueError, match="--inner-optimizer newton with --gradient mixed or reverse, got first_order"):
    InnerLoop(inner_optimizer="newton").adapt(1, gradient="first_order")
