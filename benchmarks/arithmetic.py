"""Operation counts of the matrix products and convolutions of a program, and the peak rate of the machine."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import partial_eval


def flops(fn: Callable, *arguments: Any, while_trips: int = 1) -> int:
  """Counts multiplications and additions in the matrix products and convolutions that the outputs of `fn` depend on.

  The count is taken before compilation, over all iterations of all loops.

  Args:
    fn: Function of arrays.
    arguments: Arguments of the function.
    while_trips: Iterations of a loop whose length depends on values, such as conjugate gradients.

  Returns:
    The number of floating-point operations.
  """
  closed = jax.make_jaxpr(fn)(*arguments)
  needed, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
  return _count(needed, while_trips)


def _count(jaxpr, trips) -> int:
  return sum(_of_equation(equation, trips) for equation in jaxpr.eqns)


def _of_equation(equation, trips) -> int:
  name, params = equation.primitive.name, equation.params
  shapes = [getattr(x.aval, "shape", ()) for x in (*equation.invars, *equation.outvars)]
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    return 2 * math.prod(shapes[-1]) * math.prod(shapes[0][i] for i in contracted)
  if name == "matmul":  # of `metajax.networks.matmul`
    return 2 * math.prod(shapes[-1]) * shapes[0][1]
  if name == "conv_general_dilated":
    filters = shapes[1][params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(shapes[-1]) * math.prod(shapes[1]) // filters
  if name == "custom_linear_solve":
    return _count(params["jaxprs"].solve.jaxpr, trips)
  parts = [_count(part, trips) for value in params.values() for part in _jaxprs(value)]
  if name == "cond":
    return max(parts)
  return sum(parts) * {"scan": params.get("length", 1), "while": trips}.get(name, 1)


def _jaxprs(value):
  """The subprograms in a parameter of an operation."""
  if isinstance(value, tuple | list):
    return [part for one in value for part in _jaxprs(one)]
  value = getattr(value, "jaxpr", value)
  return [value] if hasattr(value, "eqns") else []


def peak_gigaflops(size: int = 1024, seconds: float = 1.0, clock: Callable = time.perf_counter) -> float:
  """Measured peak rate of a product of two `[size, size]` float32 matrices, in 10^9 operations per second."""
  a = jax.random.normal(jax.random.key(0), (size, size))
  product = jax.jit(lambda a: a @ a)
  jax.block_until_ready(product(a))
  best, began = math.inf, clock()
  while clock() - began < seconds:
    start = clock()
    jax.block_until_ready([product(a) for _ in range(4)])
    best = min(best, (clock() - start) / 4)
  return 2 * size**3 / best / 1e9
