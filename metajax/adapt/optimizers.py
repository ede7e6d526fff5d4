"""Optimizers in an inner loop: 32-bit arithmetic, and the extra arguments of their update."""

import jax
import jax.numpy as jnp
import optax

from metajax.tree import wide
from metajax.types import Data, LossFn, Params, Scalar


def check_optimizer(optimizer: optax.GradientTransformation):
  """Raises unless `optimizer` is an optax optimizer.

  Raises:
    TypeError: With the given value.
  """
  if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
    raise TypeError(f"expected an optax optimizer, such as optax.sgd(0.1), got {optimizer!r}")


def in_32_bits(tree: Params) -> Params:
  """Params or a gradient in 32 bits, for an optimizer: a norm in 16 bits overflows from 256 on, and its eps is 0."""
  return jax.tree.map(wide, tree)


def needs_value(optimizer: optax.GradientTransformation, params: Params, known: dict) -> bool:
  """Whether an update takes the loss: its value, gradient or function (`optax.polyak_sgd`, `optax.lbfgs`).

  The update is tried once per structure of params; `known` caches the result.

  Raises:
    TypeError: If the update requires any other argument.
  """
  if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
    return False
  structure = "asks for the loss", jax.tree.structure(params)
  if structure not in known:
    known[structure] = _asks(optimizer, params)
  return known[structure]


def _asks(optimizer, params):
  def try_update(told):
    def update(p):
      more = told_of_loss(_zero, p, (), 0.0, p) if told else {}
      return optimizer.update(p, optimizer.init(p), p, **more)

    jax.eval_shape(update, params)

  try:
    try_update(told=False)
    return False
  except TypeError as error:
    if "required keyword-only argument" not in str(error):
      raise
    missing = error
  try:
    try_update(told=True)
  except TypeError:
    message = "expected an optimizer whose update requires at most value, grad and value_fn"
    raise TypeError(f"{message}, got {missing}") from missing
  return True


def told_of_loss(loss: LossFn, params: Params, data: Data, value: Scalar | float, gradient: Params) -> dict:
  """Extra arguments of optax updates with a line search or a division by the loss; all of them are constants."""
  stop = jax.lax.stop_gradient

  def narrow(tree):
    return jax.tree.map(lambda x, p: jnp.asarray(x, jnp.result_type(p)), tree, params)

  def in_full(x):
    return wide(stop(jnp.asarray(x)))

  return {
    "value": in_full(value),
    "grad": in_32_bits(stop(gradient)),
    "value_fn": lambda other: in_full(loss(narrow(other), data)),
  }


def _zero(params, data):
  return optax.tree.sum(params)
