"""Products of float32 arrays as an accelerator computes them by default: of rounded factors, added in float32.

A CPU computes them in float32 at any precision, so the program itself is rewritten: the factors of each product and
convolution that does not ask for the highest precision are rounded first, in loops and conditions as well.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

BITS = {"tensorfloat32": (8, 10), "bfloat16": (8, 7)}  # of exponent and mantissa
# How far two exact ways to one number may be apart, relative to its norm, by what products are computed in.
TOLERANCES = {"float32": 1e-4, "tensorfloat32": 1e-2, "bfloat16": 8e-2}
PRODUCTS = ("dot_general", "conv_general_dilated", "matmul")


def at(precision: str, function: Callable) -> Callable:
  """A function whose products are of factors rounded to `precision`; its arguments are arrays in any tree."""
  if precision == "float32":
    return function

  def run(*arguments):
    program, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
    rounded = jaxpr_as_fun(ClosedJaxpr(_rewritten(program.jaxpr, BITS[precision]), program.consts))
    return jax.tree.unflatten(jax.tree.structure(out), rounded(*jax.tree.leaves(arguments)))

  return run


def _rewritten(jaxpr: Jaxpr, bits: tuple[int, int]) -> Jaxpr:
  return jaxpr.replace(eqns=[new for eqn in jaxpr.eqns for new in _rounded(eqn, bits)])


def _rounded(eqn, bits):
  eqn = eqn.replace(params={name: _inner(value, bits) for name, value in eqn.params.items()})
  if eqn.primitive.name not in PRODUCTS or _is_highest(eqn.params["precision"]):
    return [eqn]
  before, factors = [], []
  for factor in eqn.invars:
    if factor.aval.dtype == jnp.float32:
      (one,) = jax.make_jaxpr(lambda x: lax.reduce_precision(x, *bits))(factor.aval).eqns
      before.append(one.replace(invars=[factor]))
      factors.append(one.outvars[0])
    else:
      factors.append(factor)
  return [*before, eqn.replace(invars=factors)]


def _inner(value, bits):
  if isinstance(value, ClosedJaxpr):
    return value.replace(jaxpr=_rewritten(value.jaxpr, bits))
  if isinstance(value, Jaxpr):
    return _rewritten(value, bits)
  if not isinstance(value, tuple):
    return value
  parts = [_inner(one, bits) for one in value]
  return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def _is_highest(precision) -> bool:
  return precision is not None and all(one == lax.Precision.HIGHEST for one in jax.tree.leaves(precision))
