"""A matrix product whose derivatives are as fast as itself on a CPU.

The derivative of `inputs @ kernel` with respect to the kernel is `inputs^T @ cotangent`. XLA reads the transposed
matrix in place, which takes up to twice as long on a CPU as to copy it first. JAX's rule for products cannot express
this, so the product has rules of its own. Accelerators read transposed matrices as fast as others, and copy nothing.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from metajax.types import Array


def matmul(inputs: Array, kernel: Array) -> Array:
  """`inputs @ kernel`, with fast derivatives on a CPU.

  Args:
    inputs: `[..., values]`.
    kernel: `[values, outputs]`.

  Returns:
    `[..., outputs]`.

  Raises:
    ValueError: If the sizes do not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax.networks import matmul
    >>> matmul(jnp.ones([8, 16, 4]), jnp.ones([4, 2])).shape
    (8, 16, 2)
  """
  inputs, kernel = jnp.asarray(inputs), jnp.asarray(kernel)
  if inputs.ndim < 1 or kernel.ndim != 2 or inputs.shape[-1] != kernel.shape[0]:
    shapes = f"{list(inputs.shape)} and {list(kernel.shape)}"
    raise ValueError(f"expected inputs [..., values] and a kernel [values, outputs], got {shapes}")
  dtype = jnp.promote_types(inputs.dtype, kernel.dtype)
  rows, kernel = inputs.reshape(-1, inputs.shape[-1]).astype(dtype), kernel.astype(dtype)
  # JAX converts the types of arrays that vary for its own operations alone.
  product = _plain_product if _varies(rows) or _varies(kernel) else _product.bind
  # Of the moment, as that of `jax.lax.dot_general`: the program is lowered outside of `jax.default_matmul_precision`.
  precision = jax.config.jax_default_matmul_precision  # ty: ignore
  return product(rows, kernel, precision=precision).reshape(*inputs.shape[:-1], kernel.shape[1])


def dot_general(inputs: Array, kernel: Array, dimension_numbers: Any, **how: Any) -> Array:
  """`jax.lax.dot_general` for the layers of flax: `matmul`, if the last axes meet the first ones of the kernel."""
  (axes, of_kernel), batch = dimension_numbers
  number = len(axes)
  plain = not any(batch) and all(x is None for x in how.values()) and inputs.dtype == kernel.dtype
  last = tuple(range(inputs.ndim - number, inputs.ndim))
  if not (plain and tuple(axes) == last and tuple(of_kernel) == tuple(range(number))):
    return lax.dot_general(inputs, kernel, dimension_numbers, **how)
  outer, outputs = inputs.shape[: inputs.ndim - number], kernel.shape[number:]
  rows = inputs.reshape(*outer, math.prod(kernel.shape[:number]))
  return matmul(rows, kernel.reshape(rows.shape[-1], math.prod(outputs))).reshape(*outer, *outputs)


def _varies(x: Array) -> bool:
  """Whether the type of an array names the axes of a `shard_map` over which it varies."""
  kind = jax.typeof(x)
  return bool(getattr(getattr(kind, "mat", None), "varying", None) or getattr(kind, "vma", None))


_product = Primitive("matmul")
_transposed = Primitive("transposed_copy")


def _plain_product(rows, kernel, *, precision):
  return _dot(rows, kernel, ((1,), (0,)), precision)


def _dot(first, second, axes, precision, batch=((), ())):
  return lax.dot_general(first, second, (axes, batch), precision=precision)


def _plain_transpose(matrix):
  return lax.transpose(matrix, (1, 0))


@jax.jit
def _computed(matrix):
  return lax.optimization_barrier(matrix)


def _copied_transpose(matrix):
  # Without the second barrier XLA reads the matrix in place. On a CPU it drops barriers before it fuses operations, and
  # would compute the matrix again in the order of its columns, had it not to pass it to a function.
  with set_xla_metadata(inlineable="false"):
    matrix = _computed(matrix)
  return lax.optimization_barrier(_plain_transpose(matrix))


def _for_rows(cotangent, rows, kernel, *, precision):
  return _dot(cotangent, kernel, ((1,), (1,)), precision)


def _for_kernel(cotangent, rows, kernel, *, precision):
  if cotangent.shape[1] < rows.shape[1]:  # the narrower one is copied
    return _transposed.bind(_product.bind(_transposed.bind(cotangent), rows, precision=precision))
  return _product.bind(_transposed.bind(rows), cotangent, precision=precision)


def _batched_product(arguments, axes, *, precision):
  (rows, kernel), (of_rows, of_kernel) = arguments, axes
  if of_kernel is None:
    rows = jnp.moveaxis(rows, of_rows, 0)
    product = _product.bind(rows.reshape(-1, rows.shape[2]), kernel, precision=precision)
    return product.reshape(*rows.shape[:2], kernel.shape[1]), 0
  if of_rows is None:
    return _dot(rows, jnp.moveaxis(kernel, of_kernel, 0), ((1,), (1,)), precision), 1
  kernel, rows = jnp.moveaxis(kernel, of_kernel, 0), jnp.moveaxis(rows, of_rows, 0)
  return _dot(rows, kernel, ((2,), (1,)), precision, ((0,), (0,))), 0


def _batched_transpose(arguments, axes):
  return jnp.swapaxes(jnp.moveaxis(arguments[0], axes[0], 0), 1, 2), 0


def _shape_of_product(rows, kernel, *, precision):
  return rows.update(shape=(rows.shape[0], kernel.shape[1]), weak_type=False)


_product.def_impl(_plain_product)
_product.def_abstract_eval(_shape_of_product)
mlir.register_lowering(_product, mlir.lower_fun(_plain_product, multiple_results=False))
ad.defbilinear(_product, _for_rows, _for_kernel)
batching.primitive_batchers[_product] = _batched_product

_transposed.def_impl(_plain_transpose)
_transposed.def_abstract_eval(lambda matrix: matrix.update(shape=matrix.shape[::-1]))
mlir.register_lowering(_transposed, mlir.lower_fun(_plain_transpose, multiple_results=False))
mlir.register_lowering(_transposed, mlir.lower_fun(_copied_transpose, multiple_results=False), platform="cpu")
ad.deflinear2(_transposed, lambda cotangent, matrix: [_transposed.bind(cotangent)])
batching.primitive_batchers[_transposed] = _batched_transpose
