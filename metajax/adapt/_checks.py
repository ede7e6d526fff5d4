"""Argument checks of inner loops, before any step is taken."""

import jax
import jax.numpy as jnp

from metajax.tree import is_floating
from metajax.types import Data, LossFn, Params


def check_floats(params: Params):
  """Raises unless all parameters are floating, and so have a derivative.

  Raises:
    TypeError: Naming the first parameter that is not of a floating type.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if not is_floating(leaf):
      name = jax.tree_util.keystr(path)
      raise TypeError(f"expected parameters of a floating type, got {jnp.result_type(leaf)} at params{name}")


def check_scalar(loss: LossFn, params: Params, data: Data):
  """Raises unless the inner loss is a scalar.

  Raises:
    ValueError: With its shape.
  """
  shape = jax.eval_shape(loss, params, data)
  if getattr(shape, "shape", None) != ():
    raise ValueError(f"expected the inner loss to be a scalar, got {shape}")
