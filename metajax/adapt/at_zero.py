"""Derivatives of an optimizer's update at a zero gradient, measured by automatic differentiation."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.types import Params

STEEP = 1e3  # above this ratio of the slope at a zero gradient to the update's size, the update is constant there
TOO_STEEP = 1e6  # above this ratio the optimizer is rejected
SEVERAL = 6  # number of consecutive updates that must have a derivative


class Probe(NamedTuple):
  """Behavior of an optimizer at a zero gradient: bools, or traced bools if it depends on traced values (learned rates).

  Attributes:
    nudge_gradient: Whether the gradient must be moved off zero.
    nudge_params: Whether the parameters must be moved off zero.
    has_no_derivative: Whether some update has no derivative at any gradient.
    steep: Per leaf, whether the update's slope exceeds `STEEP`.
    too_steep: Per leaf, whether the update's slope exceeds `TOO_STEEP`, and the optimizer is rejected.
  """

  nudge_gradient: Any
  nudge_params: Any
  has_no_derivative: Any
  steep: Any
  too_steep: Any


def at_zero(optimizer: optax.GradientTransformation, params: Params) -> Probe:
  """Measures an optimizer on parameters of two elements each, or of full shape if it has a rate per parameter."""
  try:
    return _known_or_traced(functools.partial(_measure, optimizer, params, _two))
  except (TypeError, ValueError):  # it accepts parameters of their full shapes only
    return _known_or_traced(functools.partial(_measure, optimizer, params, jnp.shape))


def _two(x):
  """Shape with two elements; only one is varied, since an update divided by its norm does not change along itself."""
  return (2,) * min(jnp.ndim(x), 1) + (1,) * (jnp.ndim(x) - 1)


def _measure(optimizer, params, shape) -> Probe:
  ones = jax.tree.map(lambda x: jnp.ones(shape(x), jnp.result_type(x)), params)
  first = jax.tree.map(lambda x: jnp.zeros_like(x).at[(0,) * x.ndim].set(1), ones)
  at_zero = _change(optimizer, ones, first, 0.0)[1:]
  tiny = _change(optimizer, ones, first, 1e-12)[1]
  size, slope, _ = _change(optimizer, ones, first, 1.0)
  ratios = jax.tree.map(_ratio, tiny, size, slope)
  return Probe(
    ~_finite(at_zero),
    ~_finite(_change_with_params(optimizer, ones, 0.0)),
    ~_finite(_change_of_several(optimizer, ones, first)),
    jax.tree.map(lambda r: ~(r < STEEP), ratios),
    jax.tree.map(lambda r: ~(r < TOO_STEEP), ratios),
  )


def _change(optimizer, ones, first, size):
  """The update at a gradient of the given size, and its derivative by the gradient in forward and in reverse mode."""

  def update(gradient):
    return optimizer.update(gradient, optimizer.init(ones), ones)[0]

  gradient = jax.tree.map(lambda x: jnp.full_like(x, size), ones)
  value, slope = jax.jvp(update, (gradient,), (first,))
  return value, slope, jax.vjp(update, gradient)[1](jax.tree.map(jnp.ones_like, value))[0]


def _change_with_params(optimizer, ones, value):
  """Derivative of the update at a gradient of ones by parameters that all equal `value`."""
  at = jax.tree.map(lambda x: jnp.full_like(x, value), ones)
  update, pull = jax.vjp(lambda p: optimizer.update(ones, optimizer.init(ones), p)[0], at)
  return pull(jax.tree.map(jnp.ones_like, update))[0]


def _change_of_several(optimizer, ones, first):
  """Derivatives of consecutive updates at one gradient: in some optimizers only the third or a later one has none."""

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
    # Traced outside any mesh and compiled as one program: run eagerly, each operation would be a program.
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
      traced = jax.jit(measure).trace()
      if not any(isinstance(x, jax.core.Tracer) for x in traced.jaxpr.consts):
        return jax.tree.map(bool, traced.lower().compile()())
  except (TypeError, ValueError):
    pass
  return measure()  # the optimizer depends on traced values: its behavior is known only at run time
