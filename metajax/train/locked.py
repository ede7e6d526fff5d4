"""An optimizer that leaves a part of the params alone."""

import jax
import optax

from metajax.train.given import check_optimizer


def locked(optimizer: optax.GradientTransformation, *names: str) -> optax.GradientTransformation:
  """The optimizer on all params but some parts, which stay as they are to the bit, weight decay or not.

  `locked(adamw(1e-3), "picture")` trains CLIP's text tower alone (LiT, arXiv:2111.07991). The optimizer keeps no state
  of what is locked.

  Args:
    optimizer: of the rest.
    names: keys of the params, a dictionary.

  Raises:
    TypeError: if it is no optimizer.
    ValueError: at init, if the params are no dictionary with these keys, or nothing is left to train.
  """
  check_optimizer(optimizer)
  inner = optax.partition(
    {"trained": optimizer, "locked": optax.set_to_zero()},
    lambda params: {name: "locked" if name in names else "trained" for name in params},
  )

  def init(params):
    if not isinstance(params, dict) or not set(names) <= set(params) or set(names) == set(params):
      known = sorted(params) if isinstance(params, dict) else jax.tree.structure(params)
      raise ValueError(f"expected params with {', '.join(map(repr, names))} to lock and others to train, got {known}")
    return inner.init(params)

  return optax.GradientTransformationExtraArgs(init, inner.update)
