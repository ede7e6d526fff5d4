"""Derivatives in a direction against central differences, each by one program: for tests in 64 bits."""

import jax
import jax.numpy as jnp
import numpy as np


def direction_like(tree, seed=6):
  random = np.random.default_rng(seed)
  return jax.tree.map(lambda x: random.normal(size=np.shape(x)), tree)


def moved(tree, direction, size):
  return jax.tree.map(lambda x, d: np.float64(x) + size * d, tree, direction)


def vdot(first, second):
  return sum(np.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True))


def check_slope(run, at, rtol=1e-6, size=1e-5):
  """Looks whether a gradient is right: `run` is compiled, of 64 bits, and gives (value, gradient) at a pytree."""
  direction = direction_like(at)
  above, below = (float(run(moved(at, direction, sign * size))[0]) for sign in (1, -1))
  np.testing.assert_allclose(vdot(run(moved(at, direction, 0))[1], direction), (above - below) / (2 * size), rtol=rtol)


def check_slopes(loss, arguments, *, step=1e-5, rtol=1e-5, atol=1e-5):
  """Checks the slope of a loss of some arguments, backward and forward, in a direction of all of them together."""
  arguments = jax.tree.map(np.float64, jax.device_get(tuple(arguments)))

  @jax.jit
  def slopes(arguments, direction, beside):
    gradient = jax.grad(loss, range(len(arguments)))(*arguments)
    backward = sum(map(jnp.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)))
    before, after = jax.lax.map(lambda arguments: loss(*arguments), beside)
    return backward, jax.jvp(loss, arguments, direction)[1], (after - before) / (2 * step)

  direction = direction_like(arguments)
  beside = jax.tree.map(lambda *two: np.stack(two), *(moved(arguments, direction, by) for by in (-step, step)))
  backward, forward, difference = slopes(arguments, direction, beside)
  np.testing.assert_allclose([backward, forward], [difference] * 2, rtol=rtol, atol=atol)
