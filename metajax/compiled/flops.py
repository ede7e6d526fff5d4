"""Counts the operations of a program's matrix products and convolutions."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval
from jax.lax import Precision

PASSES = {Precision.HIGH: 3, Precision.HIGHEST: 6}  # products in bfloat16 of which a TPU makes one of float32


def flops(fn: Callable, *arguments: Any, while_trips: int = 1, in_bfloat16: bool = False) -> int:
  """Counts multiplications and additions in the matrix products and convolutions that the outputs of `fn` depend on.

  The count is taken before compilation, over all iterations of all loops.

  Args:
    fn: Function of arrays.
    arguments: Arguments of the function, arrays or their shapes.
    while_trips: Iterations of a loop whose length depends on values, such as conjugate gradients.
    in_bfloat16: Whether to count the products in bfloat16 that a TPU makes: 3 or 6 for one of float32 at a precision of
      "high" or "highest".

  Returns:
    The number of floating-point operations.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax.compiled import flops
    >>> flops(jnp.dot, jnp.ones([2, 3]), jnp.ones([3, 4]))
    48
  """
  closed = jax.make_jaxpr(fn)(*arguments)
  needed, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
  return _count(needed, while_trips, in_bfloat16)


def _count(jaxpr, trips, passes) -> int:
  return sum(_of_equation(equation, trips, passes) for equation in jaxpr.eqns)


def _of_equation(equation, trips, passes) -> int:
  name, params = equation.primitive.name, equation.params
  shapes: list[tuple[int, ...]] = [getattr(x.aval, "shape", ()) for x in (*equation.invars, *equation.outvars)]
  each = 2 * (_passes(equation) if passes else 1)
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    return each * math.prod(shapes[-1]) * math.prod(shapes[0][i] for i in contracted)
  if name == "matmul":  # of `metajax.networks.matmul`
    return each * math.prod(shapes[-1]) * shapes[0][1]
  if name == "conv_general_dilated":
    filters = shapes[1][params["dimension_numbers"].rhs_spec[0]]
    return each * math.prod(shapes[-1]) * math.prod(shapes[1]) // filters
  if name == "custom_linear_solve":
    return _count(params["jaxprs"].solve.jaxpr, trips, passes)
  parts = [_count(part, trips, passes) for value in params.values() for part in _jaxprs(value)]
  if name == "cond":
    return max(parts)
  return sum(parts) * {"scan": params.get("length", 1), "while": trips}.get(name, 1) * _devices(equation)


def _devices(equation) -> int:
  """Devices that each run a subprogram on a part of its arrays."""
  if equation.primitive.name != "shard_map":
    return 1
  mesh = equation.params["mesh"]
  return math.prod(mesh.shape[axis] for axis in equation.params["newly_manual_axes"])


def _passes(equation) -> int:
  asked = equation.params.get("precision")
  asked = asked if isinstance(asked, tuple) else (asked,)
  wide = all(x.aval.dtype == jnp.float32 for x in equation.invars[:2])
  return max((PASSES.get(one, 1) for one in asked), default=1) if wide else 1


def _jaxprs(value):
  """The subprograms in a parameter of an operation."""
  if isinstance(value, tuple | list):
    return [part for one in value for part in _jaxprs(one)]
  value = getattr(value, "jaxpr", value)
  return [value] if hasattr(value, "eqns") else []
