"""Heads of networks: features to outputs."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax import checks
from metajax.compose.combinators import with_head
from metajax.similarity import unit_rows
from metajax.types import Network


def linear(num_outputs: int, scale: float = 1.0) -> Network:
  """`features @ weight + bias`: `[n, d] -> [n, num_outputs]`, weight drawn from N(0, scale^2 / d), bias 0.

  Raises:
    ValueError: if `num_outputs` is no whole number of at least 1, or `scale` none; at init, if the features are not
      `[n, d]`.
  """
  checks.count("num_outputs", num_outputs)
  checks.scalar("scale", scale)

  def init(key, features):
    if jnp.ndim(features) != 2:
      raise ValueError(f"expected features [n, d], got an array of shape {list(jnp.shape(features))}")
    d = features.shape[-1]
    return {"weight": scale * jax.random.normal(key, (d, num_outputs)) / np.sqrt(d), "bias": jnp.zeros(num_outputs)}, {}

  def apply(params, state, features, *, train, key=None):
    return features @ params["weight"] + params["bias"], state

  return Network(init, apply)


def cosine(num_outputs: int, scale: float = 10.0) -> Network:
  """`scale * cos(features, weight_k)`, a classifier that sees directions alone (arXiv:1804.09458, 1904.04232).

  `[n, d] -> [n, num_outputs]`, between -scale and scale; directions are drawn from N(0, 1/d).

  Raises:
    ValueError: if `num_outputs` is no whole number of at least 1, or `scale` none; at init, if the features are not
      `[n, d]`.
  """
  checks.scalar("scale", scale)
  plain = linear(num_outputs)

  def init(key, features):
    params, state = plain.init(key, features)
    return {"weight": params["weight"]}, state

  def apply(params, state, features, *, train, key=None):
    return scale * unit_rows(features) @ unit_rows(params["weight"].T).T, state

  return Network(init, apply)


def perceptron(hidden: int, num_outputs: int) -> Network:
  """A hidden layer of `hidden` ReLUs, then a linear one: `[n, d] -> [n, num_outputs]`; with 0 hidden, linear from
  zeros.

  Raises:
    ValueError: if `hidden` is no whole number of at least 0, or `num_outputs` of at least 1.
  """
  checks.count("hidden", hidden, 0)
  if not hidden:
    return linear(num_outputs, scale=0.0)
  first = linear(hidden, scale=np.sqrt(2))

  def activated(params, state, features, *, train, key=None):
    return jax.nn.relu(first.apply(params, state, features, train=train)[0]), state

  return with_head(Network(first.init, activated), linear(num_outputs))
