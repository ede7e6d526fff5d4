"""A loss's slope, backward and forward, beside a central difference, all by one program: for tests in 64 bits."""

import jax
import jax.numpy as jnp
import numpy as np
from finite_differences import direction_like, moved


def check_slopes(loss, arguments, *, step=1e-5, rtol=1e-5, atol=1e-5):
  """Checks the slope in a direction drawn at random, of all arguments together."""
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
