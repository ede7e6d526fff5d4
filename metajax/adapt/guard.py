"""What keeps an optimizer's update differentiable where an inner gradient is zero.

The square root of Adam and RMSProp has an infinite derivative at zero, and the norm of a clipped gradient none. Padding
or a zero-initialised head bring exactly zero gradients, and with them NaN, or a meta-gradient of 1e9.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import jaxprs_in_params

from metajax.types import Params

STEEP = 1e3  # an update that changes so much faster at a zero gradient than its own size is taken as constant there
TOO_STEEP = 1e6  # and one that changes so fast is refused
SEVERAL = 6  # updates that must have a derivative
SMOOTH = {"add", "add_any", "sub", "neg", "mul", "convert_element_type", "copy"}  # of numbers, everywhere
SMOOTH |= {"broadcast_in_dim", "concatenate", "dynamic_slice", "gather", "reshape", "slice", "squeeze", "transpose"}


def guarded_update(optimizer: optax.GradientTransformation, params: Params, known: dict) -> optax.TransformUpdateFn:
  """`optimizer.update`, with a derivative that stays finite and bounded where elements of the gradient are zero.

  - An optimizer that is not differentiable at zero only in form (a norm, a square root without `eps_root`) is given a
    gradient, or parameters, that are not quite zero there.
  - Of one that divides by the gradient's size (Adam, RMSProp), elements whose gradient is exactly zero are taken as
    constants: the value is the optimizer's, the derivative 0 instead of `1 / sqrt(eps_root)`.

  An update of sums and products alone (gradient descent, momentum, at rates known or learned) is differentiable
  everywhere, and is left as it is. What another optimizer does at zero is measured on parameters of two elements each,
  or, where it has rates of its own for each parameter, on as many as there are, and kept in `known`.

  Raises:
    ValueError: if its update changes more than a million times faster at a zero gradient than it is large (an Adam or
      RMSProp without `eps_root`), or one of its first updates has no derivative.
  """
  if not jax.tree.leaves(params) or _is_smooth(optimizer, params):
    return optimizer.update
  structure = jax.tree.structure(params), tuple((jnp.ndim(x), jnp.result_type(x)) for x in jax.tree.leaves(params))
  nudged, params_nudged, none, steep, too_steep = found = known.get(structure) or _at_zero(optimizer, params)
  if not any(isinstance(flag, jax.core.Tracer) for flag in jax.tree.leaves(found)):
    known[structure] = found
  for path, leaf in jax.tree_util.tree_leaves_with_path(too_steep):
    if not isinstance(leaf, jax.core.Tracer) and leaf:
      raise ValueError(
        "expected an inner optimizer whose update has a bounded derivative at a zero gradient, got one that divides by "
        f"the gradient's size at params{jax.tree_util.keystr(path)}: give optax.adam or adamw an eps_root, such as the "
        "square of its rate, and others that divide by it an eps of 1e-4"
      )
  if not isinstance(none, jax.core.Tracer) and none:
    raise ValueError(
      "expected an inner optimizer whose updates have a derivative, got one whose first few have none at any gradient "
      "(optax.radam is one): a meta-gradient would be NaN; gradient='first_order' needs none"
    )

  def update(gradient, state, params):
    def safe(slope, steep):
      held = jnp.where((slope == 0) & steep, jax.lax.stop_gradient(slope), slope) if _may_be(steep) else slope
      return _nudge(held, nudged)

    params = jax.tree.map(lambda x: _nudge(x, params_nudged), params)
    return optimizer.update(jax.tree.map(safe, gradient, steep), state, params)

  return update


def _is_smooth(optimizer, params) -> bool:
  """Whether an update is made of sums and products alone."""
  update = lambda gradient, params: optimizer.update(gradient, optimizer.init(params), params)

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
  """Where `nudged`, zeros, and what is so near that its square is zero, become what a norm can be differentiated at."""
  if not _may_be(nudged):
    return x
  tiny = 16 * jnp.finfo(x.dtype).tiny ** 0.5
  away = jnp.where(x < 0, -tiny, tiny)
  return x + jnp.where((jnp.abs(x) < tiny) & nudged, away, 0).astype(x.dtype)


def _may_be(flag) -> bool:
  """False only where it is known to be."""
  return isinstance(flag, jax.core.Tracer) or bool(flag)


def _at_zero(optimizer, params):
  """(whether the gradient must not be zero; whether the parameters must not; whether some update has no derivative at
  all; which leaves are steep at a zero gradient; which too steep), of bools or, where the optimizer depends on traced
  values such as learned rates, of traced bools."""

  def measure(shape):
    ones = jax.tree.map(lambda x: jnp.ones(shape(x), jnp.result_type(x)), params)
    first = jax.tree.map(lambda x: jnp.zeros_like(x).at[(0,) * x.ndim].set(1), ones)

    def change(size):
      """The update at a gradient of that size, and how it changes with the gradient, forward and in reverse."""
      gradient = jax.tree.map(lambda x: jnp.full_like(x, size), ones)
      update = lambda g: optimizer.update(g, optimizer.init(ones), ones)[0]
      value, slope = jax.jvp(update, (gradient,), (first,))
      return value, slope, jax.vjp(update, gradient)[1](jax.tree.map(jnp.ones_like, value))[0]

    def of_params(value):
      """How the update at a gradient of ones changes with parameters of a value."""
      at = jax.tree.map(lambda x: jnp.full_like(x, value), ones)
      update, pull = jax.vjp(lambda p: optimizer.update(ones, optimizer.init(ones), p)[0], at)
      return pull(jax.tree.map(jnp.ones_like, update))[0]

    def of_several(gradient):
      """Updates at the same gradient, of which some optimizers have no derivative of the third."""
      step = lambda state, _: optimizer.update(gradient, state, ones)[::-1]
      return jax.lax.scan(step, optimizer.init(ones), None, length=SEVERAL)[1]

    def several():
      updates, slope = jax.jvp(of_several, (ones,), (first,))
      return slope, jax.vjp(of_several, ones)[1](jax.tree.map(jnp.ones_like, updates))[0]

    at_zero = change(0.0)[1:]
    tiny = change(1e-12)[1]
    size, slope, _ = change(1.0)
    finite = lambda tree: jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()
    ratio = lambda z, s, d: jnp.abs(z).max() / (jnp.abs(s).max() + jnp.abs(d).max() + 1e-30)
    ratios = jax.tree.map(ratio, tiny, size, slope)
    over = lambda limit: jax.tree.map(lambda r: ~(r < limit), ratios)
    return ~finite(at_zero), ~finite(of_params(0.0)), ~finite(several()), over(STEEP), over(TOO_STEEP)

  # Two elements, of which one changes: an update divided by its norm does not change along itself.
  two = lambda x: (2,) * min(jnp.ndim(x), 1) + (1,) * (jnp.ndim(x) - 1)
  try:
    return _known_or_traced(functools.partial(measure, two))
  except (TypeError, ValueError):  # it is of parameters of their own shapes alone
    return _known_or_traced(functools.partial(measure, jnp.shape))


def _known_or_traced(measure):
  try:
    # Traced as if nothing else were, and compiled as a whole: computed at once, each operation would be a program.
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
      traced = jax.jit(measure).trace()
      if not any(isinstance(x, jax.core.Tracer) for x in traced.jaxpr.consts):
        return jax.tree.map(bool, traced.lower().compile()())
  except (TypeError, ValueError):
    pass
  return measure()  # the optimizer depends on what is traced: what it does is known only when it runs
