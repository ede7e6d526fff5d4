"""Gradient steps of any optax optimizer, differentiated forward over reverse, in reverse, or not at all.

| gradient | derivative | memory per step, beyond about two gradients' activations |
|---|---|---|
| "mixed" | exact; forward over reverse (arXiv:2505.00793) | set by `remat` |
| "reverse" | exact, through any operation | the activations, or set by `remat` |
| "first_order" | inner gradients are constants (FOMAML, arXiv:1703.03400) | none |

"mixed" assumes that the Hessian is symmetric, as the Hessian of any loss is. A `custom_vjp` within the loss whose
backward pass is not a true gradient (clipped or reversed gradients, straight-through estimators) breaks this
assumption and needs "reverse".

| remat | kept per step |
|---|---|
| "gradients" | parameters, optimizer state and gradient; the update is recomputed |
| "step" | parameters and optimizer state; the gradient is recomputed |
| "sqrt" | as "step", for about `2 sqrt(steps)` steps at a time; each step is taken once more |

Near a zero gradient an update of Adam changes `rate / sqrt(eps_root)` times as fast as the gradient, at every step. An
`eps_root` of about the square of the rate keeps this product near 1; with 1e-8 a meta-gradient grows a hundredfold per
step.
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from metajax import checks
from metajax.adapt import keys
from metajax.adapt._checks import check_floats, check_scalar
from metajax.adapt.guard import guarded_update
from metajax.adapt.optimizers import check_optimizer, in_32_bits, needs_value, told_of_loss
from metajax.adapt.scan import SAVED, Remat, checkpointed, scan_of
from metajax.adapt.value_and_grad import mixed_value_and_grad
from metajax.types import Adapt, Data, LossFn

Gradient = Literal["mixed", "reverse", "first_order"]


def gradient_steps(
  optimizer: optax.GradientTransformation,
  steps: int,
  *,
  gradient: Gradient = "mixed",
  remat: Remat = "gradients",
  truncate: int | None = None,
  per_step: bool = False,
  trajectory: bool = False,
) -> Adapt:
  """An Adapt that takes `steps` steps of an optax optimizer: `params <- params + update(grad loss(params))`.

  The optimizer state is initialized for each task. The adapted parameters are differentiable with respect to the
  initial ones and everything that the loss or the optimizer closes over (learned rates, loss weights, other
  parameters). An optimizer that divides by the gradient's size (Adam, RMSProp) is constant in elements whose inner
  gradient is exactly zero. Typed keys in the data become `fold_in(key, step)`, so that dropout masks differ by step.

  Args:
    optimizer: Any optax optimizer, e.g. `optax.sgd(0.4)` or `optax.adam(0.01, eps_root=1e-4)`, run in 32 bits or more.
      Those whose update takes the loss (`optax.lbfgs`, `polyak_sgd`) need "first_order". On `eps_root` see the module.
    steps: Number of steps, at least 1.
    gradient: Derivative of the inner gradients: "mixed" (exact, forward over reverse), "reverse" (exact, through any
      operation) or "first_order" (constants). The module docstring compares them.
    remat: Values kept for the backward pass: "gradients", "step" or "sqrt", by memory. "reverse" with "gradients" keeps
      all activations.
    truncate: Number of last steps whose gradients are differentiated; earlier ones are constants. 0 is "first_order".
    per_step: Whether data has a leading `[steps]` axis, one slice per step (mini-batches, keys).
    trajectory: Whether the path holds the parameters after each step rather than the loss before it.

  Returns:
    An Adapt whose path is the loss before each step, `[steps]`, or the parameters after it, `[steps, ...]`.

  Raises:
    ValueError: If `steps` is below 1, `truncate` not in [0, steps], `gradient` or `remat` unknown; when called, if the
      loss is not a scalar, the leading axis of `per_step` data is not `steps`, or a differentiated optimizer takes the
      loss or has an unbounded derivative at a zero gradient (Adam, RMSProp without `eps_root`) or none (RAdam).
    TypeError: If `optimizer` is not an optax optimizer; when called, if a parameter is not floating; under "mixed", in
      forward mode, or if an operation has no forward-mode derivative.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> from metajax.adapt import gradient_steps
    >>> adapt = gradient_steps(optax.sgd(0.1), steps=3)
    >>> params, losses = adapt(lambda params, data: jnp.sum((params - data) ** 2), jnp.zeros(2), jnp.ones(2))
    >>> print(losses.round(2))
    [2.   1.28 0.82]
  """
  exact = _check_arguments(optimizer, steps, gradient, remat, truncate)
  return functools.partial(_take_steps, _Steps(optimizer, steps, exact, gradient, remat, per_step, trajectory, {}))


class _Steps(NamedTuple):
  """Arguments of `gradient_steps`.

  Attributes:
    exact: Number of last steps that are differentiated.
    known: Cache of measured properties of the optimizer, per structure of params.
  """

  optimizer: optax.GradientTransformation
  steps: int
  exact: int
  gradient: Gradient
  remat: Remat
  per_step: bool
  trajectory: bool
  known: dict


class _Task(NamedTuple):
  """Task of an inner loop.

  Attributes:
    update: Guarded update function of the optimizer.
    told: Whether the update takes the loss.
    keyed: Whether the data hold keys, into which each step folds its number.
  """

  loss: LossFn
  data: Data
  update: Callable
  told: bool
  keyed: bool


def _take_steps(how: _Steps, loss, params, data):
  """Takes the steps whose gradients are constants, then the differentiated ones."""
  _check(loss, params, data, how.steps, how.per_step)
  task = _task(how, loss, params, data)
  each = data if how.per_step else jnp.arange(how.steps) if task.keyed else None
  carry, paths = (params, how.optimizer.init(in_32_bits(params))), []
  for mode, count in (("first_order", how.steps - how.exact), (how.gradient, how.exact)):
    if count:
      done = how.steps - how.exact if paths else 0
      own = jax.tree.map(lambda x: x[done : done + count], each)  # noqa: B023
      step = checkpointed(functools.partial(_inner_step, how, task, mode), mode, how.remat)
      carry, path = scan_of(mode, how.remat)(step, carry, own, length=count)
      paths.append(path)
  return carry[0], paths[0] if len(paths) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *paths)


def _task(how: _Steps, loss, params, data) -> _Task:
  told = needs_value(how.optimizer, in_32_bits(params), how.known)
  if told and how.exact:
    raise ValueError(
      "expected a differentiable inner optimizer, got one whose update takes the value of the loss "
      "(such as optax.lbfgs or polyak_sgd): use gradient='first_order', which needs no derivative of the update"
    )
  update = guarded_update(how.optimizer, in_32_bits(params), how.known) if how.exact else how.optimizer.update
  return _Task(loss, data, update, told, not how.per_step and keys.has_keys(data))


def _inner_step(how: _Steps, task: _Task, mode, carry, slice_):
  params, optimizer_state = carry
  own = slice_ if how.per_step else keys.of_step(task.data, slice_) if task.keyed else task.data
  if mode == "mixed":
    value, slope = mixed_value_and_grad(task.loss, params, own)
  else:
    value, slope = jax.value_and_grad(task.loss)(params, own)
  slope = lax.stop_gradient(slope) if mode == "first_order" else checkpoint_name(slope, SAVED)
  given = in_32_bits(slope), optimizer_state, in_32_bits(params)
  if task.told:  # the update is a constant: a line search has no reverse-mode derivative
    told = told_of_loss(task.loss, params, own, value, slope)
    updates, optimizer_state = lax.stop_gradient(task.update(*lax.stop_gradient(given), **told))
  else:
    updates, optimizer_state = task.update(*given)
  params = optax.apply_updates(params, updates)
  return (params, optimizer_state), params if how.trajectory else value


def _check_arguments(optimizer, steps, gradient, remat, truncate) -> int:
  """Checks the arguments; returns the number of last steps that are differentiated."""
  check_optimizer(optimizer)
  checks.count("steps", steps)
  checks.choice("gradient", gradient, Gradient)
  checks.choice("remat", remat, Remat)
  whole = isinstance(truncate, int) and not isinstance(truncate, bool)
  if truncate is not None and not (whole and 0 <= truncate <= steps):
    raise ValueError(f"expected truncate to be from 0 to the {steps} steps, got {truncate}")
  return 0 if gradient == "first_order" else steps if truncate is None else truncate


def _check(loss, params, data, steps, per_step):
  check_floats(params)
  if per_step:
    found = sorted({jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)})
    if found != [(steps,)]:
      raise ValueError(f"expected data with a leading axis of {steps}, one slice per step, got leading axes {found}")
    data = jax.tree.map(lambda x: x[0], data)
  check_scalar(loss, params, data)
