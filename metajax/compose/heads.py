"""Heads: networks from features to outputs."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax import checks
from metajax.compose.combinators import with_head
from metajax.similarity import unit_rows
from metajax.tree import values_of
from metajax.types import Network


def linear(num_outputs: int, scale: float = 1.0) -> Network:
  """A linear layer, `features @ weight + bias`.

  Args:
    num_outputs: Number of outputs, at least 1.
    scale: Scale of the initial weight, drawn from N(0, scale^2 / d); the bias starts at 0.

  Returns:
    A Network from `[n, d]` to `[n, num_outputs]`.

  Raises:
    ValueError: if `num_outputs` is not an integer of at least 1, or `scale` is not a number; at init, if the features
      are not `[n, d]`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.compose import linear
    >>> head, features = linear(10), jnp.zeros([4, 64])
    >>> params, _ = jax.eval_shape(head.init, jax.random.key(0), features)
    >>> params["weight"].shape, params["bias"].shape
    ((64, 10), (10,))
  """
  checks.count("num_outputs", num_outputs)
  checks.scalar("scale", scale)

  def init(key, features):
    features = values_of(features)
    if jnp.ndim(features) != 2:
      raise ValueError(f"expected features [n, d], got an array of shape {list(jnp.shape(features))}")
    d = features.shape[-1]
    shape = (d, num_outputs)
    weight = scale * jax.random.normal(key, shape) / np.sqrt(d) if np.any(scale != 0) else jnp.zeros(shape)
    return {"weight": weight, "bias": jnp.zeros(num_outputs)}, {}

  def apply(params, state, features, *, train, key=None):
    return values_of(features) @ params["weight"] + params["bias"], state

  return Network(init, apply)


def cosine(num_outputs: int, scale: float = 10.0) -> Network:
  """A cosine classifier, `scale * cos(features, weight_k)` (arXiv:1804.09458, 1904.04232).

  Args:
    num_outputs: Number of outputs, at least 1.
    scale: Factor of the cosine; logits lie between -scale and scale.

  Returns:
    A Network from `[n, d]` to `[n, num_outputs]`; initial weights are drawn from N(0, 1/d).

  Raises:
    ValueError: if `num_outputs` is not an integer of at least 1, or `scale` is not a number; at init, if the features
      are not `[n, d]`.
  """
  checks.scalar("scale", scale)
  plain = linear(num_outputs)

  def init(key, features):
    params, state = plain.init(key, features)
    return {"weight": params["weight"]}, state

  def apply(params, state, features, *, train, key=None):
    return scale * unit_rows(values_of(features)) @ unit_rows(params["weight"].T).T, state

  return Network(init, apply)


def perceptron(hidden: int, num_outputs: int) -> Network:
  """A perceptron with one hidden ReLU layer, or a zero-initialized linear layer if `hidden` is 0.

  Args:
    hidden: Number of hidden units, at least 0.
    num_outputs: Number of outputs, at least 1.

  Returns:
    A Network from `[n, d]` to `[n, num_outputs]`.

  Raises:
    ValueError: if `hidden` is not an integer of at least 0, or `num_outputs` not one of at least 1.
  """
  checks.count("hidden", hidden, 0)
  if not hidden:
    return linear(num_outputs, scale=0.0)
  first = linear(hidden, scale=np.sqrt(2))

  def activated(params, state, features, *, train, key=None):
    return jax.nn.relu(first.apply(params, state, features, train=train)[0]), state

  return with_head(Network(first.init, activated), linear(num_outputs))
