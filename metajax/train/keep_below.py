"""A link of an optimizer's chain that keeps a parameter below a limit."""

import math

import jax
import jax.numpy as jnp
import optax

from metajax import checks


def keep_below(limit: float, name: str) -> optax.GradientTransformation:
  """Shortens updates so that the parameters of a name are at most `limit` after them:

      update = min(update, limit - parameter)

  It is the last link of a chain, after the rate: `optax.chain(optax.adam(1e-3), keep_below(LARGEST_LOG_SCALE,
  "log_scale"))` for a learned temperature (CLIP, arXiv:2103.00020). Other parameters are left alone.

  Args:
    limit: the largest value.
    name: the last part of the parameters' path, such as the key of a dictionary.

  Raises:
    ValueError: if the limit is no number; at init, if no parameter has the name; at an update without the parameters.
  """

  checks.in_range("limit", limit, -math.inf, math.inf)

  def is_it(path) -> bool:
    return bool(path) and jax.tree_util.keystr(path[-1:], simple=True) == name

  def init(params):
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    if not any(map(is_it, paths)):
      known = sorted({jax.tree_util.keystr(path, simple=True, separator="/") for path in paths})
      raise ValueError(f"expected a parameter of the name {name!r} to keep below {limit:g}, got {', '.join(known)}")
    return optax.EmptyState()

  def update(updates, state, params=None):
    if params is None:
      raise ValueError("keep_below needs the parameters: call update(updates, state, params)")
    shorten = lambda path, update, value: jnp.minimum(update, limit - value) if is_it(path) else update
    return jax.tree.map_with_path(shorten, updates, params), state

  return optax.GradientTransformation(init, update)
