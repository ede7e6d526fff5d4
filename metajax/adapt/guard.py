"""What keeps an optimizer's update differentiable where an inner gradient is zero.

The square root of Adam and RMSProp has an infinite derivative at zero, and the norm of a clipped gradient none. Padding
or a zero-initialised head bring exactly zero gradients, and with them NaN, or a meta-gradient of 1e9.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from metajax.mesh import while_tracing

STEEP = 1e3  # an update that changes so much faster at a zero gradient than its own size is taken as constant there
TOO_STEEP = 1e6  # and one that changes so fast is refused


def guarded_update(optimizer: optax.GradientTransformation, params, known: dict) -> Callable:
  """`optimizer.update`, with a derivative that stays finite and bounded where elements of the gradient are zero.

  - An optimizer that is not differentiable at zero only in form (a norm, a square root without `eps_root`) is given a
    gradient that is not quite zero there.
  - Of one that divides by the gradient's size (Adam, RMSProp), elements whose gradient is exactly zero are taken as
    constants: the value is the optimizer's, the derivative 0 instead of `1 / sqrt(eps_root)`.

  What an optimizer does at zero is measured on parameters of two elements each, and kept in `known`.

  Raises:
    ValueError: if its update changes more than a million times faster at a zero gradient than it is large: an Adam or
      RMSProp without `eps_root`.
  """
  if not jax.tree.leaves(params):
    return optimizer.update
  structure = jax.tree.structure(params), tuple((jnp.ndim(x), jnp.result_type(x)) for x in jax.tree.leaves(params))
  nudged, steep, too_steep = found = known.get(structure) or _at_zero(optimizer, params)
  if not any(isinstance(flag, jax.core.Tracer) for flag in jax.tree.leaves(found)):
    known[structure] = found
  for path, leaf in jax.tree_util.tree_leaves_with_path(too_steep):
    if not isinstance(leaf, jax.core.Tracer) and leaf:
      raise ValueError(
        "expected an inner optimizer whose update has a bounded derivative at a zero gradient, got one that divides by "
        f"the gradient's size at params{jax.tree_util.keystr(path)}: give optax.adam or adamw an eps_root, such as "
        "1e-8, and others that divide by it an eps of 1e-4"
      )

  def update(gradient, state, params):
    def safe(slope, steep):
      zero = slope == 0
      tiny = 16 * jnp.finfo(slope.dtype).tiny ** 0.5
      held = jnp.where(zero & steep, jax.lax.stop_gradient(slope), slope) if _may_be(steep) else slope
      return held + jnp.where(zero & nudged, tiny, 0).astype(slope.dtype) if _may_be(nudged) else held

    return optimizer.update(jax.tree.map(safe, gradient, steep), state, params)

  return update


def _may_be(flag) -> bool:
  """False only where it is known to be."""
  return isinstance(flag, jax.core.Tracer) or bool(flag)


def _at_zero(optimizer, params):
  """(whether the gradient must not be zero; which leaves are steep there; which too steep), of bools or, where the
  optimizer depends on traced values such as learned rates, of traced bools."""

  def measure():
    # Two elements, of which one changes: an update divided by its norm does not change along itself.
    shape = lambda x: (2,) * min(jnp.ndim(x), 1) + (1,) * (jnp.ndim(x) - 1)
    ones = jax.tree.map(lambda x: jnp.ones(shape(x), jnp.result_type(x)), params)
    first = jax.tree.map(lambda x: jnp.zeros_like(x).at[(0,) * x.ndim].set(1), ones)

    def change(size):
      """The update at a gradient of that size, and how it changes with the gradient, forward and in reverse."""
      gradient = jax.tree.map(lambda x: jnp.full_like(x, size), ones)
      update = lambda g: optimizer.update(g, optimizer.init(ones), ones)[0]
      value, slope = jax.jvp(update, (gradient,), (first,))
      return value, slope, jax.vjp(update, gradient)[1](jax.tree.map(jnp.ones_like, value))[0]

    at_zero = change(0.0)[1:]
    tiny = change(1e-12)[1]
    size, slope, _ = change(1.0)
    finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(at_zero)]).all()
    ratio = lambda z, s, d: jnp.abs(z).max() / (jnp.abs(s).max() + jnp.abs(d).max() + 1e-30)
    ratios = jax.tree.map(ratio, tiny, size, slope)
    over = lambda limit: jax.tree.map(lambda r: ~(r < limit), ratios)
    return ~finite, over(STEEP), over(TOO_STEEP)

  try:
    with while_tracing():
      return jax.tree.map(bool, jax.jit(measure)())
  except (TypeError, ValueError):  # the optimizer depends on what is traced: what it does is known only when it runs
    return measure()
