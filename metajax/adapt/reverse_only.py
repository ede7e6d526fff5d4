"""Values that have a derivative in reverse mode alone, and say so in forward mode."""

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

ADVICE = (
  'an inner loop of gradient="mixed" has a derivative in reverse mode alone (jax.grad, jax.jacrev, jax.hessian): for '
  'forward mode (jax.jvp, jax.jacfwd) give it gradient="reverse"'
)


@jax.custom_jvp
def only_in_reverse(tree):
  """The same values, whose derivative by forward mode is refused with what to do, when it is compiled or run.

  Raises:
    TypeError: if what depends on them is differentiated in forward mode.
  """
  return tree


def _refused(*_, **__):
  raise TypeError(ADVICE)


# Tangents pass through an operation that has a transpose and cannot be run: forward mode runs it, reverse mode never.
_tangent_p = Primitive("tangent_in_reverse_mode_alone")
_tangent_p.def_impl(_refused)
_tangent_p.def_abstract_eval(lambda x: x)
ad.deflinear(_tangent_p, lambda cotangent: [cotangent])
batching.primitive_batchers[_tangent_p] = _refused
mlir.register_lowering(_tangent_p, _refused)


def _rule(primals, tangents):
  def through(tangent):
    if isinstance(tangent, SymbolicZero) or not jnp.issubdtype(tangent.dtype, jnp.inexact):
      return tangent
    return _tangent_p.bind(tangent)

  tangents = jax.tree.map(through, tangents[0], is_leaf=lambda x: isinstance(x, SymbolicZero))
  return primals[0], tangents


only_in_reverse.defjvp(_rule, symbolic_zeros=True)
