"""Inner loops that solve a linear system with the Hessian, which is never formed."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.extend.core import jaxpr_as_fun

from metajax import checks
from metajax.adapt import keys
from metajax.adapt._checks import check_floats, check_scalar
from metajax.adapt.gradient_steps import gradient_steps
from metajax.adapt.optimizers import in_32_bits
from metajax.adapt.value_and_grad import mixed_value_and_grad
from metajax.types import Adapt, Params


def implicit(
  optimizer: optax.GradientTransformation,
  steps: int,
  proximal_strength: float,
  *,
  cg_steps: int = 5,
  damping: float = 0.0,
) -> Adapt:
  """An Adapt to the minimum of the loss near the start, differentiated implicitly (iMAML, arXiv:1909.04630):

      phi = argmin_p  L(p) + lambda / 2 |p - start|^2
      d phi = (H + lambda)^-1 (lambda d start - d_c grad L)

  where `H` is the Hessian of `L` at `phi` and `c` all that the loss closes over. The minimum is approached by gradient
  steps that leave no trace, and the system solved by conjugate gradients with products `H v`, so memory does not grow
  with `steps` or `cg_steps`. The derivative is that of the exact minimum: exact where both have converged and
  `H + lambda` is positive definite. The optimizer's own rates are not differentiated.

  Args:
    optimizer: that approaches the minimum.
    steps: how many it takes.
    proximal_strength: `lambda` of the paper, above 0.
    cg_steps: of conjugate gradients.
    damping: added to the Hessian in the system only, so that it stays positive definite; not below 0.

  Returns:
    An Adapt whose path is the pulled loss before each step, `[steps]`, without a derivative.

  Raises:
    ValueError: if `steps` or `cg_steps` is below 1, `proximal_strength` not above 0 or `damping` below 0; when called,
      if the loss is not a scalar.
    TypeError: when called, if a parameter is not of a floating type.
  """
  _check_cg(cg_steps, damping)
  checks.scalar("proximal_strength", proximal_strength)
  if checks.is_concrete(proximal_strength) and not 0 < proximal_strength < math.inf:
    raise ValueError(f"expected proximal_strength above 0, got {proximal_strength}")
  approach = gradient_steps(optimizer, steps, gradient="first_order")

  def adapt(loss, params, data):
    check_floats(params)
    check_scalar(loss, params, data)
    start = lax.stop_gradient(params)

    def pulled(params, data):
      apart = jax.tree.map(lambda p, s: jnp.sum(jnp.square(p - s)), *map(in_32_bits, (params, start)))
      return loss(params, data) + proximal_strength / 2 * sum(jax.tree.leaves(apart))

    found, path = lax.stop_gradient(approach(pulled, start, data))
    slope = jax.grad(loss)(found, data)  # of what the loss closes over, and zero at the minimum
    residual = jax.tree.map(lambda g, f, p: g + proximal_strength * (f - p), *map(in_32_bits, (slope, found, params)))
    matvec = _traced(functools.partial(_product, loss, found, data, proximal_strength + damping), residual)
    # Its value is zero, so that the system is solved for the derivative alone.
    nothing = jax.tree.map(lambda r: r - lax.stop_gradient(r), residual)
    newton = _solve(lambda v: lax.stop_gradient(matvec(v)), nothing, cg_steps, params)
    return jax.tree.map(lambda f, n: (f - n).astype(f.dtype), found, newton), path

  return adapt


def newton(steps: int, *, cg_steps: int = 10, damping: float = 1e-3, learning_rate: float = 1.0) -> Adapt:
  """An Adapt that takes Newton steps (the Hessian method inside), `p <- p - learning_rate (H + damping)^-1 grad L(p)`.

  The system is solved by conjugate gradients with products `H v`, and differentiated as a solution: the derivative is
  exact where conjugate gradients converged, on a positive-definite `H + damping`. Memory is that of a few gradients and
  one vector of the size of the parameters a step.

  Args:
    steps: how many.
    cg_steps: of conjugate gradients in each.
    damping: added to the Hessian, so that it is positive definite; not below 0.
    learning_rate: of the step.

  Returns:
    An Adapt whose path is the loss before each step, `[steps]`.

  Raises:
    ValueError: if `steps` or `cg_steps` is below 1 or `damping` below 0; when called, if the loss is not a scalar.
    TypeError: when called, if a parameter is not of a floating type.
  """
  _check_cg(cg_steps, damping)
  checks.count("steps", steps)
  checks.scalar("learning_rate", learning_rate)

  def adapt(loss, params, data):
    check_floats(params)
    check_scalar(loss, params, data)

    keyed = keys.has_keys(data)

    def step(params, number):
      own = keys.of_step(data, number) if keyed else data
      value, slope = mixed_value_and_grad(loss, params, own)
      right = in_32_bits(slope)
      matvec = _traced(functools.partial(_product, loss, params, own, damping), right)
      direction = _solve(matvec, right, cg_steps, params)
      return jax.tree.map(lambda p, d: (p - learning_rate * d).astype(p.dtype), params, direction), value

    numbers = jnp.arange(steps) if keyed else None
    return lax.scan(jax.checkpoint(step, prevent_cse=False), params, numbers, length=steps)

  return adapt


def _product(loss, params, data, damping, vector):
  """`(H + damping) vector`, forward over reverse, of a vector in 32 bits at least."""
  tangent = jax.tree.map(lambda v, p: v.astype(jnp.result_type(p)), vector, params)
  change = jax.jvp(lambda p: jax.grad(loss)(p, data), (params,), (tangent,))[1]
  return jax.tree.map(lambda c, v: c.astype(v.dtype) + damping * v, change, vector)


def _traced(matvec: Callable[[Params], Params], like: Params) -> Callable[[Params], Params]:
  """The same product, differentiated by JAX once, and not each of the many times that conjugate gradients takes it."""
  closed = jax.make_jaxpr(matvec)(like)

  def product(vector):
    return jax.tree.unflatten(jax.tree.structure(like), jaxpr_as_fun(closed)(*jax.tree.leaves(vector)))

  return product


def _solve(matvec, right, cg_steps, params):
  def solve(matvec, right):
    # Beyond the precision of its numbers, conjugate gradients divides nothing by nothing.
    precision = max(float(jnp.finfo(jnp.result_type(x)).eps) for x in jax.tree.leaves(params))
    return jax.scipy.sparse.linalg.cg(matvec, right, tol=precision, maxiter=cg_steps)[0]

  return lax.custom_linear_solve(matvec, right, solve, symmetric=True)


def _check_cg(cg_steps, damping):
  checks.count("cg_steps", cg_steps)
  checks.scalar("damping", damping)
  if checks.is_concrete(damping) and not 0 <= damping < math.inf:
    raise ValueError(f"expected a damping of at least 0, got {damping}")
