"""What keeps an optimizer's update differentiable where an inner gradient is zero.

The square root of Adam and RMSProp has an infinite derivative at zero, and the norm of a clipped gradient none. Padding
or a zero-initialised head bring exactly zero gradients, and with them NaN, or a meta-gradient of 1e9.
"""

import functools
from typing import Any, NamedTuple

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
  found = known.get(structure) or _at_zero(optimizer, params)
  if not any(isinstance(flag, jax.core.Tracer) for flag in jax.tree.leaves(found)):
    known[structure] = found
  for path, leaf in jax.tree_util.tree_leaves_with_path(found.too_steep):
    if not isinstance(leaf, jax.core.Tracer) and leaf:
      raise ValueError(
        "expected an inner optimizer whose update has a bounded derivative at a zero gradient, got one that divides by "
        f"the gradient's size at params{jax.tree_util.keystr(path)}: give optax.adam or adamw an eps_root, such as the "
        "square of its rate, and others that divide by it an eps of 1e-4"
      )
  if not isinstance(found.has_no_derivative, jax.core.Tracer) and found.has_no_derivative:
    raise ValueError(
      "expected an inner optimizer whose updates have a derivative, got one whose first few have none at any gradient "
      "(optax.radam is one): a meta-gradient would be NaN; gradient='first_order' needs none"
    )

  def update(updates, state, params=None):
    def safe(slope, steep):
      held = jnp.where((slope == 0) & steep, jax.lax.stop_gradient(slope), slope) if _may_be(steep) else slope
      return _nudge(held, found.nudge_gradient)

    params = jax.tree.map(lambda x: _nudge(x, found.nudge_params), params)
    return optimizer.update(jax.tree.map(safe, updates, found.steep), state, params)

  return update


def _is_smooth(optimizer, params) -> bool:
  """Whether an update is made of sums and products alone."""

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
  """Where `nudged`, zeros, and what is so near that its square is zero, become what a norm can be differentiated at."""
  if not _may_be(nudged):
    return x
  tiny = 16 * jnp.finfo(x.dtype).tiny ** 0.5
  away = jnp.where(x < 0, -tiny, tiny)
  return x + jnp.where((jnp.abs(x) < tiny) & nudged, away, 0).astype(x.dtype)


def _may_be(flag) -> bool:
  """False only where it is known to be."""
  return isinstance(flag, jax.core.Tracer) or bool(flag)


class _Probe(NamedTuple):
  """What an optimizer does at a zero gradient: bools or, where it depends on traced values such as learned rates,
  traced bools.

  Attributes:
    nudge_gradient: whether the gradient must not be zero.
    nudge_params: whether the parameters must not.
    has_no_derivative: whether some update has none at all.
    steep: which leaves are.
    too_steep: which are so steep that they are refused.
  """

  nudge_gradient: Any
  nudge_params: Any
  has_no_derivative: Any
  steep: Any
  too_steep: Any


def _at_zero(optimizer, params) -> _Probe:
  try:
    return _known_or_traced(functools.partial(_measure, optimizer, params, _two))
  except (TypeError, ValueError):  # it is of parameters of their own shapes alone
    return _known_or_traced(functools.partial(_measure, optimizer, params, jnp.shape))


def _two(x):
  """Two elements, of which one changes: an update divided by its norm does not change along itself."""
  return (2,) * min(jnp.ndim(x), 1) + (1,) * (jnp.ndim(x) - 1)


def _measure(optimizer, params, shape) -> _Probe:
  ones = jax.tree.map(lambda x: jnp.ones(shape(x), jnp.result_type(x)), params)
  first = jax.tree.map(lambda x: jnp.zeros_like(x).at[(0,) * x.ndim].set(1), ones)
  at_zero = _change(optimizer, ones, first, 0.0)[1:]
  tiny = _change(optimizer, ones, first, 1e-12)[1]
  size, slope, _ = _change(optimizer, ones, first, 1.0)
  ratios = jax.tree.map(_ratio, tiny, size, slope)
  return _Probe(
    ~_finite(at_zero),
    ~_finite(_change_with_params(optimizer, ones, 0.0)),
    ~_finite(_change_of_several(optimizer, ones, first)),
    jax.tree.map(lambda r: ~(r < STEEP), ratios),
    jax.tree.map(lambda r: ~(r < TOO_STEEP), ratios),
  )


def _change(optimizer, ones, first, size):
  """The update at a gradient of that size, and how it changes with the gradient, forward and in reverse."""

  def update(gradient):
    return optimizer.update(gradient, optimizer.init(ones), ones)[0]

  gradient = jax.tree.map(lambda x: jnp.full_like(x, size), ones)
  value, slope = jax.jvp(update, (gradient,), (first,))
  return value, slope, jax.vjp(update, gradient)[1](jax.tree.map(jnp.ones_like, value))[0]


def _change_with_params(optimizer, ones, value):
  """How the update at a gradient of ones changes with parameters of a value."""
  at = jax.tree.map(lambda x: jnp.full_like(x, value), ones)
  update, pull = jax.vjp(lambda p: optimizer.update(ones, optimizer.init(ones), p)[0], at)
  return pull(jax.tree.map(jnp.ones_like, update))[0]


def _change_of_several(optimizer, ones, first):
  """How updates at the same gradient change with it: some optimizers have no derivative of the third."""

  def updates(gradient):
    def step(state, _):
      return optimizer.update(gradient, state, ones)[::-1]

    return jax.lax.scan(step, optimizer.init(ones), None, length=SEVERAL)[1]

  found, slope = jax.jvp(updates, (ones,), (first,))
  return slope, jax.vjp(updates, ones)[1](jax.tree.map(jnp.ones_like, found))[0]


def _finite(tree):
  return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def _ratio(tiny, size, slope):
  return jnp.abs(tiny).max() / (jnp.abs(size).max() + jnp.abs(slope).max() + 1e-30)


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
