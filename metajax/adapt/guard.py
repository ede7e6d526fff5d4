"""Differentiable optimizer updates where an inner gradient is zero.

The square root in Adam and RMSProp has an infinite derivative at zero, and the norm of a clipped gradient has none.
Padding or a zero-initialized head cause exactly zero gradients, hence NaN or a meta-gradient of 1e9.
"""

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import jaxprs_in_params

from metajax.adapt.at_zero import at_zero
from metajax.types import Params

SMOOTH = {"add", "add_any", "sub", "neg", "mul", "convert_element_type", "copy"}  # differentiable everywhere
SMOOTH |= {"broadcast_in_dim", "concatenate", "dynamic_slice", "gather", "reshape", "slice", "squeeze", "transpose"}


def guarded_update(optimizer: optax.GradientTransformation, params: Params, known: dict) -> optax.TransformUpdateFn:
  """`optimizer.update`, with a derivative that stays finite and bounded where elements of the gradient are zero.

  - An optimizer whose non-differentiability at zero is removable (a norm, a square root without `eps_root`) is given a
    gradient, or parameters, slightly off zero.
  - An optimizer that divides by the gradient's size (Adam, RMSProp) is constant in elements whose gradient is exactly
    zero: the value is the optimizer's, the derivative 0 instead of `1 / sqrt(eps_root)`.

  An update of only sums and products (gradient descent, momentum, with fixed or learned rates) is differentiable
  everywhere and is returned unchanged. The behavior of any other optimizer at zero is measured on parameters of two
  elements each, or of full shape if it has a separate rate per parameter, and cached in `known`.

  Returns:
    The update function `(updates, state, params) -> (updates, state)`.

  Raises:
    ValueError: If the slope of the update at a zero gradient is more than a million times its size (Adam or RMSProp
      without `eps_root`), or one of the first updates has no derivative.
  """
  if not jax.tree.leaves(params) or _is_smooth(optimizer, params):
    return optimizer.update
  structure = jax.tree.structure(params), tuple((jnp.ndim(x), jnp.result_type(x)) for x in jax.tree.leaves(params))
  found = known.get(structure) or at_zero(optimizer, params)
  if not any(isinstance(flag, jax.core.Tracer) for flag in jax.tree.leaves(found)):
    known[structure] = found
  for path, leaf in jax.tree_util.tree_leaves_with_path(found.too_steep):
    if not isinstance(leaf, jax.core.Tracer) and leaf:
      raise ValueError(
        "expected an inner optimizer whose update has a bounded derivative at a zero gradient, got one that divides by "
        f"the gradient's size at params{jax.tree_util.keystr(path)}: give optax.adam or adamw an eps_root, such as the "
        "square of the learning rate, and other such optimizers an eps of 1e-4"
      )
  if not isinstance(found.has_no_derivative, jax.core.Tracer) and found.has_no_derivative:
    raise ValueError(
      "expected an inner optimizer whose updates have a derivative, got one whose first few updates have none at any "
      "gradient (such as optax.radam), which makes the meta-gradient NaN: use gradient='first_order'"
    )

  def update(updates, state, params=None):
    def safe(slope, steep):
      held = jnp.where((slope == 0) & steep, jax.lax.stop_gradient(slope), slope) if _may_be(steep) else slope
      return _nudge(held, found.nudge_gradient)

    params = jax.tree.map(lambda x: _nudge(x, found.nudge_params), params)
    return optimizer.update(jax.tree.map(safe, updates, found.steep), state, params)

  return update


def _is_smooth(optimizer, params) -> bool:
  """Whether an update consists of sums and products only."""

  def update(gradient, params):
    return optimizer.update(gradient, optimizer.init(params), params)

  def smooth(jaxpr):
    for equation in jaxpr.eqns:
      if inner := list(jaxprs_in_params(equation.params)):
        if not all(map(smooth, inner)):
          return False
      elif equation.primitive.name not in SMOOTH and any(map(_is_float, equation.invars)):
        return False
    return True

  return smooth(jax.make_jaxpr(update)(params, params).jaxpr)


def _is_float(value) -> bool:
  return jnp.issubdtype(value.aval.dtype, jnp.inexact)


def _nudge(x, nudged):
  """Moves values whose square is zero away from zero where `nudged`, so that a norm is differentiable there."""
  if not _may_be(nudged):
    return x
  tiny = 16 * jnp.finfo(x.dtype).tiny ** 0.5
  away = jnp.where(x < 0, -tiny, tiny)
  return x + jnp.where((jnp.abs(x) < tiny) & nudged, away, 0).astype(x.dtype)


def _may_be(flag) -> bool:
  """Whether a flag is true or traced; False only if it is known to be false."""
  return isinstance(flag, jax.core.Tracer) or bool(flag)
