"""Gradient steps of any optimizer, differentiated forward over reverse, in reverse, or not at all."""

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
  """An Adapt that takes `steps` steps of any optax optimizer: `params <- params + update(grad loss(params))`.

  The optimizer's state starts anew for each task. The adapted parameters are differentiable in the initial ones and
  in everything that the loss or the optimizer closes over (learned rates, loss weights, other parameters). Where an
  element of an inner gradient is exactly zero, an optimizer that divides by the gradient's size (Adam, RMSProp) counts
  as constant in it.

  "mixed" takes the Hessian to be symmetric, as that of any loss is. A `custom_vjp` within the loss whose backward pass
  is no true gradient (clipped or reversed gradients, straight-through estimators) breaks that: it needs "reverse".

  A typed key in the data is another one at each step, `fold_in(key, step)`, however the steps are differentiated, so
  that dropout has a mask of its own at each.

  | gradient | what | memory of a step, beyond about two gradients' activations |
  |---|---|---|
  | "mixed" | exact; forward over reverse (arXiv:2505.00793) | as `remat` says |
  | "reverse" | exact, through any operation | the activations, or as `remat` says |
  | "first_order" | inner gradients are constants (FOMAML, arXiv:1703.03400) | nothing |

  | remat | what is kept of each step |
  |---|---|
  | "gradients" | parameters, optimizer state and gradient; the update is computed again |
  | "step" | parameters and optimizer state; the gradient is computed again |
  | "sqrt" | as "step", but of about `2 sqrt(steps)` steps at a time; each is taken once more |

  Args:
    optimizer: any of optax, whose arithmetic is in 32 bits at least, e.g. `optax.sgd(0.4)`, `optax.adam(0.01,
      eps_root=1e-4)`; those whose update asks for the loss (`optax.lbfgs`, `polyak_sgd`) under "first_order" alone, as
      constants. Near a zero gradient an update of Adam changes `rate / sqrt(eps_root)` times as fast as the gradient,
      at every step: an `eps_root` of about the square of the rate keeps that product near 1, where 1e-8 lets a
      meta-gradient grow a hundredfold a step.
    steps: how many steps, at least 1.
    gradient: how the inner gradients are differentiated.
    remat: what is kept for the backward pass. Under "reverse", "gradients" keeps all activations.
    truncate: differentiate the gradients of the last `truncate` steps only; those before are constants. 0 is
      "first_order".
    per_step: data has a leading `[steps]` axis and each step is given its own slice (mini-batches, keys).
    trajectory: the second output is the parameters after each step, with a leading `[steps]` axis, rather than the
      loss before each step, `[steps]`.

  Raises:
    ValueError: if `steps` is below 1, `truncate` not in [0, steps], `gradient` or `remat` unknown; when called, if the
      loss is not a scalar, `per_step` data has another leading axis, or the optimizer has an unbounded derivative at a
      zero gradient (Adam or RMSProp without `eps_root`) or none at all (RAdam), or asks for the loss and is to be
      differentiated.
    TypeError: if the optimizer is none of optax; when called, if a parameter is not of a floating type; when
      differentiated under "mixed", if an operation has no forward-mode derivative, or in forward mode.
  """
  exact = _check_arguments(optimizer, steps, gradient, remat, truncate)
  return functools.partial(_take_steps, _Steps(optimizer, steps, exact, gradient, remat, per_step, trajectory, {}))


class _Steps(NamedTuple):
  """How steps are taken: the arguments of `gradient_steps`.

  Attributes:
    exact: how many steps, the last ones, are differentiated.
    known: what is found out of the optimizer, once for params of a structure.
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
  """What a step is taken on.

  Attributes:
    update: of the optimizer.
    told: whether it asks for the loss.
    keyed: whether the data hold keys, which each step folds with its number.
  """

  loss: LossFn
  data: Data
  update: Callable
  told: bool
  keyed: bool


def _take_steps(how: _Steps, loss, params, data):
  """Steps whose gradients are constants, and then those that are differentiated."""
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
      "expected an inner optimizer that is differentiable, got one whose update asks for the value of the loss "
      "(optax.lbfgs and polyak_sgd do): gradient='first_order', which needs no derivative of it, serves these"
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
  if task.told:  # a constant as a whole: a search along a line has no derivative in reverse
    told = told_of_loss(task.loss, params, own, value, slope)
    updates, optimizer_state = lax.stop_gradient(task.update(*lax.stop_gradient(given), **told))
  else:
    updates, optimizer_state = task.update(*given)
  params = optax.apply_updates(params, updates)
  return (params, optimizer_state), params if how.trajectory else value


def _check_arguments(optimizer, steps, gradient, remat, truncate) -> int:
  """Looks at them; how many steps, the last ones, are differentiated."""
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
      raise ValueError(f"expected data with a leading axis of {steps}, one slice a step, got leading axes {found}")
    data = jax.tree.map(lambda x: x[0], data)
  check_scalar(loss, params, data)
