"""Initial heads for a new task, with one output per way: `(params, support labels) -> params`."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import Array, Params


def zero_init_head(params: Params, labels: Array) -> Params:
  """Replaces a linear head of one output by zeros for all `ways` outputs.

  Any number of ways works, and their order does not matter. The initialization is not learned, and nothing is lost: a
  component that all ways share cancels out of the softmax, and out of the inner gradient of the features, after any
  number of steps. The first step moves only the head, so MAML needs at least two steps to adapt its encoder.

  Args:
    params: Params of the head, or params with a "head" (`with_head`), of which only the head changes.
    labels: Support labels `[n, ways]`.

  Returns:
    Params with a head of `ways` outputs.

  Raises:
    ValueError: if the head does not have exactly one output.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": zero_init_head(params["head"], labels)}
  for leaf in jax.tree.leaves(params):
    if jnp.shape(leaf)[-1:] != (1,):
      raise ValueError(f"expected a head of one output, such as linear(1), got a leaf of shape {list(jnp.shape(leaf))}")
  return jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], labels.shape[-1]), x.dtype), params)


def slice_head(params: Params, labels: Array) -> Params:
  """Keeps the first `ways` outputs of a linear head.

  Args:
    params: Params of the head, or params with a "head" (`with_head`), of which only the head changes.
    labels: Support labels `[n, ways]`.

  Returns:
    Params with a head of `ways` outputs.

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
  """Repeats the outputs of a linear head cyclically for `ways` outputs.

  With fewer ways than outputs, the first outputs are kept. Additional ways start as copies, which the first adaptation
  step separates, so a network trained at 5 ways can be tested at 20.

  Args:
    params: Params of the head, or params with a "head" (`with_head`), of which only the head changes.
    labels: Support labels `[n, ways]`.

  Returns:
    Params with a head of `ways` outputs.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": tile_head(params["head"], labels)}
  return jax.tree.map(lambda x: x[..., np.arange(labels.shape[-1]) % x.shape[-1]], params)
