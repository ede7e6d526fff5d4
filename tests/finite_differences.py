"""A derivative in some direction against central differences: one program, run at three points."""

import jax
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
