"""Where the head of a new task starts, of as many outputs as it has ways: `(params, support labels) -> params`."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import Array, Params


def zero_init_head(params: Params, labels: Array) -> Params:
  """The params of a linear head of one output, as zeros for as many outputs as labels `[n, ways]` have.

  Of params with a "head" (`with_head`), those of the head. So any number of ways can be had, and their order does not
  matter. Nothing is learned of such a start, and nothing is lost: what all ways have in common cancels out of the
  softmax, and out of the inner gradient of the features, after any number of steps. The first step moves the head
  alone, so MAML needs two at least to adapt its encoder.

  Raises:
    ValueError: if the head has another number of outputs than one.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": zero_init_head(params["head"], labels)}
  for leaf in jax.tree.leaves(params):
    if jnp.shape(leaf)[-1:] != (1,):
      raise ValueError(f"expected a head of one output, such as linear(1), got a leaf of shape {list(jnp.shape(leaf))}")
  return jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], labels.shape[-1]), x.dtype), params)


def slice_head(params: Params, labels: Array) -> Params:
  """The params of a linear head with its first outputs alone, for as many as labels `[n, ways]` have.

  Of params with a "head" (`with_head`), those of the head.

  Raises:
    ValueError: if there are more ways than outputs.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": slice_head(params["head"], labels)}
  ways, outputs = labels.shape[-1], jnp.shape(jax.tree.leaves(params)[0])[-1]
  if ways > outputs:
    raise ValueError(f"expected at most as many ways as the head has outputs, {outputs}, got {ways}")
  return jax.tree.map(lambda x: x[..., :ways], params)


def tile_head(params: Params, labels: Array) -> Params:
  """The params of a linear head with its outputs again and again, for as many as labels `[n, ways]` have.

  Of params with a "head" (`with_head`), those of the head. As many ways as outputs are the head itself, fewer its first
  ones. Ways beyond start as copies of others, which the first step of adaptation tells apart, so that a network trained
  at 5 ways is tested at 20.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": tile_head(params["head"], labels)}
  return jax.tree.map(lambda x: x[..., np.arange(labels.shape[-1]) % x.shape[-1]], params)
