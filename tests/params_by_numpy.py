"""Parameters without the program that draws them, which takes a second to compile: for tests of what they make."""

import jax
import numpy as np


def start(init, *given, seed=0, size=0.3):
  """What `init(key, *given)` makes, `(params, state)`, with params that NumPy draws, each of which has a say.

  `given` is known to `init`, as its checks need, and the state is its own.
  """
  key = jax.random.key(seed)
  params, state = jax.eval_shape(lambda key: init(key, *given), key)
  if jax.tree.leaves(state):  # made without the params, which nothing needs
    state = jax.device_get(jax.jit(lambda key: init(key, *given)[1])(key))
  random = np.random.default_rng(seed)

  def draw(path, x):
    middle = 1 if str(path[-1].key) == "scale" else 0  # what a norm multiplies by
    return (middle + random.normal(0, size, x.shape)).astype(x.dtype)

  return jax.tree_util.tree_map_with_path(draw, params), state


def shapes(learner, batch):
  """What a learner's `init` makes of a batch that it knows, without making it."""
  return jax.eval_shape(lambda key: learner.init(key, batch), jax.random.key(0))
