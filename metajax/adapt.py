"""Inner loops as values: an `Adapt` fine-tunes parameters on one task's data, differentiably."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jax import lax

from metajax.types import Adapt

Gradient = Literal["reverse", "first_order"]


def gradient_steps(
  optimizer: optax.GradientTransformation,
  steps: int,
  *,
  gradient: Gradient = "reverse",
  per_step: bool = False,
  trajectory: bool = False,
) -> Adapt:
  """An Adapt that takes `steps` steps of any optax optimizer: `params <- params + update(grad loss(params))`.

  The optimizer's state starts anew for each task. The adapted parameters are differentiable in the initial ones and
  in everything that the loss closes over (learned rates, loss weights, other parameters).

  Args:
    optimizer: e.g. `optax.sgd(0.4)`. One that takes a square root of squared gradients (Adam, RMSProp) needs
      `eps_root > 0`, since the derivative of the root at zero is infinite.
    steps: how many steps, at least 1.
    gradient: "reverse" is exact, by differentiating the inner gradient in reverse mode; "first_order" takes the inner
      gradients as constants (FOMAML, arXiv:1703.03400).
    per_step: data has a leading `[steps]` axis and each step is given its own slice (mini-batches, keys).
    trajectory: the second output is the parameters after each step, with a leading `[steps]` axis, rather than the
      loss before each step, `[steps]`.

  Raises:
    ValueError: if `steps` is below 1 or `gradient` is unknown; when called, if the loss is not a scalar or
      `per_step` data has another leading axis.
    TypeError: when called, if a parameter is not of a floating type.
  """
  if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
    raise ValueError(f"expected steps to be a whole number of at least 1, got {steps!r}")
  if gradient not in get_args(Gradient):
    raise ValueError(f"expected gradient to be one of {', '.join(map(repr, get_args(Gradient)))}, got {gradient!r}")

  def adapt(loss, params, data):
    _check(loss, params, data, steps, per_step)

    def step(carry, slice_):
      params, optimizer_state = carry
      value, slope = jax.value_and_grad(loss)(params, slice_ if per_step else data)
      if gradient == "first_order":
        slope = lax.stop_gradient(slope)
      updates, optimizer_state = optimizer.update(slope, optimizer_state, params)
      params = optax.apply_updates(params, updates)
      return (params, optimizer_state), params if trajectory else value

    start = (params, optimizer.init(params))
    (params, _), path = lax.scan(step, start, data if per_step else None, length=steps)
    return params, path

  return adapt


def _check(loss, params, data, steps, per_step):
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
      name = jax.tree_util.keystr(path)
      raise TypeError(f"expected parameters of a floating type, got {jnp.result_type(leaf)} at params{name}")
  if per_step:
    found = sorted({jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)})
    if found != [(steps,)]:
      raise ValueError(f"expected data with a leading axis of {steps}, one slice a step, got leading axes {found}")
    data = jax.tree.map(lambda x: x[0], data)
  shape = jax.eval_shape(loss, params, data)
  if getattr(shape, "shape", None) != ():
    raise ValueError(f"expected the inner loss to be a scalar, got {shape}")
