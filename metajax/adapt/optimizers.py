"""What an inner loop asks of an optimizer: its arithmetic in 32 bits, and what its update is to be told."""

import jax
import jax.numpy as jnp
import optax

from metajax.tree import wide
from metajax.types import Data, LossFn, Params, Scalar


def check_optimizer(optimizer: optax.GradientTransformation):
  """Refuses what is no optimizer of optax.

  Raises:
    TypeError: with what it is.
  """
  if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
    raise TypeError(f"expected an optax optimizer, such as optax.sgd(0.1), got {optimizer!r}")


def in_32_bits(tree: Params) -> Params:
  """Params or a gradient as an optimizer is given them: the norm of 16 bits overflows from 256 on, and its eps is 0."""
  return jax.tree.map(wide, tree)


def needs_value(optimizer: optax.GradientTransformation, params: Params, known: dict) -> bool:
  """Whether an update asks for the loss: its value, its gradient or its function (`optax.polyak_sgd`, `optax.lbfgs`).

  It is tried, once for params of a structure, and kept in `known`.

  Raises:
    TypeError: if it asks for anything else.
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
    message = "expected an optimizer whose update asks for value, grad or value_fn at most"
    raise TypeError(f"{message}, got {missing}") from missing
  return True


def told_of_loss(loss: LossFn, params: Params, data: Data, value: Scalar | float, gradient: Params) -> dict:
  """What optax's optimizers that search along a line, or divide by the loss's value, ask for; all of it is constant."""
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
