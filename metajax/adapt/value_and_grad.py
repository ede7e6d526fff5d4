"""The gradient of an inner loss, with a custom derivative: forward over reverse (arXiv:2505.00793)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun, jaxprs_in_params

from metajax.adapt.reverse_only import only_in_reverse
from metajax.tree import is_floating, is_symbolic_zero
from metajax.types import Data, LossFn, Params, Scalar


def mixed_value_and_grad(loss: LossFn, params: Params, data: Data) -> tuple[Scalar, Params]:
  """`jax.value_and_grad(loss)(params, data)`, whose reverse-mode derivative keeps no activations.

  A Hessian is symmetric, so the cotangent `v` of the gradient reaches the parameters, and everything that the loss
  closes over, as one forward derivative of a gradient:

      v^T d(grad_p L)/d(p, c)  =  d/de grad_(p, c) L(p + e v, c) at e = 0

  Args:
    loss: Function `(params, data) -> scalar`. Closed-over floating values (learned rates, weights, other networks) are
      differentiated too; closed-over integers and keys are not.
    params: Pytree of floating arrays.
    data: Pytree of arrays.

  Returns:
    The loss, a scalar, and its gradient, a pytree like params.

  Raises:
    TypeError: When differentiated, if an operation of the loss has no forward-mode derivative, or in forward mode.
  """
  function, constants = _hoist(loss, params, data)
  return _value_and_grad(function, *only_in_reverse((params, data, constants)))


def _hoist(loss, params, data):
  """The loss as a function of params, data and closed-over values, and these values.

  `jax.closure_convert` would leave integers and keys behind, which then leak out of their trace.
  """
  closed = jax.make_jaxpr(loss)(params, data)

  def function(params, data, constants):
    return jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, constants))(*jax.tree.leaves((params, data)))[0]

  return function, closed.consts


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _value_and_grad(function: Callable, params, data, constants):
  return jax.value_and_grad(function)(params, data, constants)


def _forward(function, *primals):
  values = jax.tree.map(lambda x: x.value, primals, is_leaf=_is_primal)
  # Inputs that are not differentiated cost no cotangent. Marks without leaves are static under tracing.
  marks = [() if x.perturbed and is_floating(x.value) else None for x in jax.tree.leaves(primals, is_leaf=_is_primal)]
  # Differentiated directly: calling `_value_and_grad` here, as is usual, gives a wrong second derivative in a scan.
  return jax.value_and_grad(function)(*values), (values, marks)


def _backward(function, residuals, cotangents):
  (values, marks), (value_bar, gradient_bar) = residuals, cotangents
  leaves, tree = jax.tree.flatten(values)
  tangents = [
    jnp.zeros_like(x) if is_symbolic_zero(x) else x for x in jax.tree.leaves(gradient_bar, is_leaf=is_symbolic_zero)
  ]
  # The parameters are the first leaves, and all of them are floats.
  wanted = [i for i, mark in enumerate(marks) if mark is not None or i < len(tangents)]

  def of_wanted(some):
    filled = list(leaves)
    for i, x in zip(wanted, some, strict=True):
      filled[i] = x
    return function(*jax.tree.unflatten(tree, filled))

  some = [leaves[i] for i in wanted]
  tangents += [jnp.zeros_like(x) for x in some[len(tangents) :]]
  try:
    gradient, change = _jvp(jax.grad(of_wanted), some, tangents)
  except (TypeError, ValueError, NotImplementedError) as error:
    raise TypeError(
      f"the inner loss has an operation without a forward-mode derivative ({_first_line(error)}): use "
      'gradient="reverse" in the inner loop, which needs none'
    ) from error
  bars = [np.zeros(jnp.shape(x), jax.dtypes.float0) if not is_floating(x) else jnp.zeros_like(x) for x in leaves]
  for i, slope, curve in zip(wanted, gradient, change, strict=True):
    bars[i] = curve if is_symbolic_zero(value_bar) else (curve + value_bar * slope).astype(curve.dtype)
  return jax.tree.unflatten(tree, bars)


_value_and_grad.defvjp(_forward, _backward, symbolic_zeros=True)


def _jvp(fn, primals, tangents):
  """`jax.jvp` that rejects a `custom_vjp` immediately; inside a trace it would otherwise fail only at compilation."""

  def push(primals, tangents):
    return jax.jvp(fn, (primals,), (tangents,))

  closed, shapes = jax.make_jaxpr(push, return_shape=True)(primals, tangents)
  if _holds(closed.jaxpr, "custom_lin"):
    raise TypeError("a custom_vjp function")
  return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(closed)(*jax.tree.leaves((primals, tangents))))


def _holds(jaxpr, primitive) -> bool:
  return any(
    equation.primitive.name == primitive or any(_holds(sub, primitive) for sub in jaxprs_in_params(equation.params))
    for equation in jaxpr.eqns
  )


def _is_primal(x) -> bool:
  return hasattr(x, "perturbed")


def _first_line(error):
  return str(error).partition("\n")[0]
