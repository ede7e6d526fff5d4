"""Values that are differentiable in reverse mode only, and raise in forward mode."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from metajax.tree import is_floating

ADVICE = (
  'an inner loop with gradient="mixed" is differentiable in reverse mode only (jax.grad, jax.jacrev, jax.hessian): for '
  'forward mode (jax.jvp, jax.jacfwd) use gradient="reverse"'
)


def only_in_reverse(tree: Any) -> Any:
  """The same values, whose forward-mode derivative raises with advice when it is compiled or run.

  Raises:
    TypeError: If anything that depends on them is differentiated in forward mode.
  """
  return jax.tree.map(_marked, tree)


def _marked(x):
  return _value_p.bind(jnp.asarray(x)) if is_floating(x) else x


def _refused(*_, **__):
  raise TypeError(ADVICE)


def _derivative(primals, tangents):
  (value,), (tangent,) = primals, tangents
  return value, tangent if isinstance(tangent, ad.Zero) else _tangent_p.bind(tangent)


_value_p = Primitive("value_with_reverse_mode_alone")
_value_p.def_impl(lambda x: x)
_value_p.def_abstract_eval(lambda x: x)
ad.primitive_jvps[_value_p] = _derivative
batching.defvectorized(_value_p)
mlir.register_lowering(_value_p, lambda _, x: [x])

# Tangents pass through an operation that has a transpose but cannot run: forward mode runs it, reverse mode never does.
_tangent_p = Primitive("tangent_in_reverse_mode_alone")
_tangent_p.def_impl(_refused)
_tangent_p.def_abstract_eval(lambda x: x)
ad.deflinear(_tangent_p, lambda cotangent: [cotangent])
batching.primitive_batchers[_tangent_p] = _refused
mlir.register_lowering(_tangent_p, _refused)
