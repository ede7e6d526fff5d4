"""Heads of networks: features to outputs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from metajax import checks
from metajax.compose.joined import with_head
from metajax.types import Array, Network, Params


def linear(outputs: int, scale: float = 1.0) -> Network:
  """`features @ weight + bias`: `[n, d] -> [n, outputs]`, weight drawn from N(0, scale^2 / d), bias 0.

  Raises:
    ValueError: if `outputs` is no whole number of at least 1, or `scale` none; at init, if the features are not
      `[n, d]`.
  """
  checks.count("outputs", outputs)
  checks.scalar("scale", scale)

  def init(key, features):
    if jnp.ndim(features) != 2:
      raise ValueError(f"expected features [n, d], got an array of shape {list(jnp.shape(features))}")
    d = features.shape[-1]
    return {"weight": scale * jax.random.normal(key, (d, outputs)) / np.sqrt(d), "bias": jnp.zeros(outputs)}, {}

  def apply(params, state, features, *, train, key=None):
    return features @ params["weight"] + params["bias"], state

  return Network(init, apply)


def cosine(outputs: int, scale: float = 10.0) -> Network:
  """`scale * cos(features, weight_k)`, a classifier that sees directions alone (arXiv:1804.09458, 1904.04232).

  `[n, d] -> [n, outputs]`, between -scale and scale; directions are drawn from N(0, 1/d).

  Raises:
    ValueError: if `outputs` is no whole number of at least 1, or `scale` none; at init, if the features are not
      `[n, d]`.
  """
  checks.scalar("scale", scale)
  plain = linear(outputs)

  def init(key, features):
    params, state = plain.init(key, features)
    return {"weight": params["weight"]}, state

  def apply(params, state, features, *, train, key=None):
    return scale * unit_rows(features) @ unit_rows(params["weight"].T).T, state

  return Network(init, apply)


def perceptron(hidden: int, outputs: int) -> Network:
  """A hidden layer of `hidden` ReLUs, then a linear one: `[n, d] -> [n, outputs]`; with 0 hidden, linear from zeros.

  Raises:
    ValueError: if `hidden` is no whole number of at least 0, or `outputs` of at least 1.
  """
  checks.count("hidden", hidden, 0)
  if not hidden:
    return linear(outputs, scale=0.0)
  first = linear(hidden, scale=np.sqrt(2))

  def activated(params, state, features, *, train, key=None):
    return jax.nn.relu(first.apply(params, state, features, train=train)[0]), state

  return with_head(Network(first.init, activated), linear(outputs))


def unit_rows(features: Array) -> Array:
  """`x / |x|` of each row, `[..., d] -> [..., d]`; lengths are measured in 32 bits at least.

  A row of zeros stays, and its gradient is 0; one that holds NaN or an infinity is NaN.

  Raises:
    ValueError: if the features are not floating, or `d` is 0.
  """
  checks.floating("features", features, ..., "d")
  if not features.shape[-1]:
    raise ValueError(f"expected features of at least 1 value a row, got an array of shape {list(features.shape)}")
  rows = wide(features)
  size = lax.stop_gradient(jnp.abs(rows).max(-1, keepdims=True))
  scaled = rows / jnp.where(size == 0, 1, size)  # so that no square overflows or vanishes
  squared = jnp.square(scaled).sum(-1, keepdims=True)
  unit = jnp.where(size == 0, 0, scaled * lax.rsqrt(jnp.where(size == 0, 1, squared)))
  return unit.astype(jnp.result_type(features))


def wide(x: Array) -> Array:
  """Numbers in 32 bits at least: what sums and norms are taken of, which 16 bits cannot hold."""
  return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def zeros_for_all_ways(params: Params, labels: Array) -> Params:
  """The params of a linear head of one output, as zeros for as many outputs as labels `[n, ways]` have.

  Of params with a "head" (`with_head`), those of the head. So any number of ways can be had, and their order does not
  matter. Nothing is learned of such a start, and nothing is lost: what all ways have in common cancels out of the
  softmax, and out of the inner gradient of the features, after any number of steps. The first step moves the head
  alone, so MAML needs two at least to adapt its encoder.

  Raises:
    ValueError: if the head has another number of outputs than one.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": zeros_for_all_ways(params["head"], labels)}
  for leaf in jax.tree.leaves(params):
    if jnp.shape(leaf)[-1:] != (1,):
      raise ValueError(f"expected a head of one output, such as linear(1), got a leaf of shape {list(jnp.shape(leaf))}")
  return jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], labels.shape[-1]), x.dtype), params)


def first_ways(params: Params, labels: Array) -> Params:
  """The params of a linear head with its first outputs alone, for as many as labels `[n, ways]` have.

  Of params with a "head" (`with_head`), those of the head.

  Raises:
    ValueError: if there are more ways than outputs.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": first_ways(params["head"], labels)}
  ways, outputs = labels.shape[-1], jnp.shape(jax.tree.leaves(params)[0])[-1]
  if ways > outputs:
    raise ValueError(f"expected at most as many ways as the head has outputs, {outputs}, got {ways}")
  return jax.tree.map(lambda x: x[..., :ways], params)


def repeated_for_all_ways(params: Params, labels: Array) -> Params:
  """The params of a linear head with its outputs again and again, for as many as labels `[n, ways]` have.

  Of params with a "head" (`with_head`), those of the head. As many ways as outputs are the head itself, fewer its first
  ones. Ways beyond start as copies of others, which the first step of adaptation tells apart, so that a network trained
  at 5 ways is tested at 20.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": repeated_for_all_ways(params["head"], labels)}
  return jax.tree.map(lambda x: x[..., np.arange(labels.shape[-1]) % x.shape[-1]], params)
