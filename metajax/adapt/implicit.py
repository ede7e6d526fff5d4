"""Inner loops that solve a linear system in the Hessian by conjugate gradients, with products `H v` alone."""

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

  `H` is the Hessian of `L` at `phi`, `c` all the loss closes over. Memory does not grow with `steps` or `cg_steps`.
  The derivative is exact if both converge and `H + lambda` is positive definite; the optimizer's rates have none.

  Args:
    optimizer: Optimizer of the proximal loss, any of optax.
    steps, cg_steps: Numbers of optimizer steps and of conjugate-gradient steps, at least 1.
    proximal_strength: `lambda`, above 0.
    damping: Value of at least 0 added to the Hessian in the system only, to keep it positive definite.

  Returns:
    An Adapt whose path is the proximal loss before each step, `[steps]`, without a derivative.

  Raises:
    ValueError: If an argument is out of range; when called, if the loss is not a scalar.
    TypeError: When called, if a parameter is not of a floating type.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> from metajax.adapt import implicit
    >>> adapt = implicit(optax.sgd(0.1), steps=20, proximal_strength=2.0)
    >>> params, losses = adapt(lambda params, data: jnp.sum((params - data) ** 2), jnp.zeros(2), jnp.ones(2))
    >>> print(params.round(2), losses.shape)
    [0.5 0.5] (20,)
  """
  _check_cg(cg_steps, damping)
  _check_strength(proximal_strength)
  approach = gradient_steps(optimizer, steps, gradient="first_order")

  def adapt(loss, params, data):
    check_floats(params)
    check_scalar(loss, params, data)
    start = lax.stop_gradient(params)

    def pulled(params, data):
      apart = jax.tree.map(lambda p, s: jnp.sum(jnp.square(p - s)), *map(in_32_bits, (params, start)))
      return loss(params, data) + proximal_strength / 2 * sum(jax.tree.leaves(apart))

    found, path = lax.stop_gradient(approach(pulled, start, data))
    slope = jax.grad(loss)(found, data)  # differentiable in the loss's closed-over values
    residual = jax.tree.map(lambda g, f, p: g + proximal_strength * (f - p), *map(in_32_bits, (slope, found, params)))
    matvec = _traced(functools.partial(_product, loss, found, data, proximal_strength + damping), residual)
    # The value is zero: the system is solved only for the derivative.
    nothing = jax.tree.map(lambda r: r - lax.stop_gradient(r), residual)
    newton = _solve(lambda v: lax.stop_gradient(matvec(v)), nothing, cg_steps, params)
    return jax.tree.map(lambda f, n: (f - n).astype(f.dtype), found, newton), path

  return adapt


def newton(steps: int, *, cg_steps: int = 10, damping: float = 1e-3, learning_rate: float = 1.0) -> Adapt:
  """An Adapt that takes Newton steps, `p <- p - learning_rate (H + damping)^-1 grad L(p)`.

  Conjugate gradients with products `H v` solve the system, which is differentiated as a linear solve: the derivative is
  exact if they converge and `H + damping` is positive definite. Memory is a few gradients, plus one vector of the
  parameters' size per step.

  Args:
    steps: Number of Newton steps, at least 1.
    cg_steps: Number of conjugate-gradient steps in each, at least 1.
    damping: Value of at least 0 added to the Hessian, to make it positive definite.
    learning_rate: Factor of each Newton step.

  Returns:
    An Adapt whose path is the loss before each step, `[steps]`.

  Raises:
    ValueError: If `steps` or `cg_steps` is below 1 or `damping` below 0; when called, if the loss is not a scalar.
    TypeError: When called, if a parameter is not of a floating type.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax.adapt import newton
    >>> adapt = newton(steps=2, damping=0.0)
    >>> params, losses = adapt(lambda params, data: jnp.sum((params - data) ** 2), jnp.zeros(2), jnp.ones(2))
    >>> print(losses)
    [2. 0.]
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
  """`(H + damping) vector`, forward over reverse, for a vector of at least 32 bits."""
  tangent = jax.tree.map(lambda v, p: v.astype(jnp.result_type(p)), vector, params)
  change = jax.jvp(lambda p: jax.grad(loss)(p, data), (params,), (tangent,))[1]
  return jax.tree.map(lambda c, v: c.astype(v.dtype) + damping * v, change, vector)


def _traced(matvec: Callable[[Params], Params], like: Params) -> Callable[[Params], Params]:
  """The same product, traced once, rather than in each use by conjugate gradients."""
  closed = jax.make_jaxpr(matvec)(like)

  def product(vector):
    return jax.tree.unflatten(jax.tree.structure(like), jaxpr_as_fun(closed)(*jax.tree.leaves(vector)))

  return product


def _solve(matvec, right, cg_steps, params):
  def solve(matvec, right):
    # Below the precision of the dtype, conjugate gradients would divide zero by zero.
    precision = max(float(jnp.finfo(jnp.result_type(x)).eps) for x in jax.tree.leaves(params))
    return jax.scipy.sparse.linalg.cg(matvec, right, tol=precision, maxiter=cg_steps)[0]

  return lax.custom_linear_solve(matvec, right, solve, symmetric=True)


def _check_strength(proximal_strength):
  checks.scalar("proximal_strength", proximal_strength)
  if checks.is_concrete(proximal_strength) and not 0 < proximal_strength < math.inf:
    raise ValueError(f"expected proximal_strength above 0, got {proximal_strength}")


def _check_cg(cg_steps, damping):
  checks.count("cg_steps", cg_steps)
  checks.scalar("damping", damping)
  if checks.is_concrete(damping) and not 0 <= damping < math.inf:
    raise ValueError(f"expected a damping of at least 0, got {damping}")
