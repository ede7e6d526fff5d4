"""How modules of flax and other libraries are given padded rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from metajax.tree import values_of
from metajax.types import Array, Inputs, Padded


def unpad(
  name: str, inputs: Sequence[Inputs], normalizes: bool, takes_mask: bool = False
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
  """The inputs without their masks, and the keyword `mask` of a module whose outputs depend on all rows of a batch.

  Args:
    name: Name of the module in an error.
    inputs: Inputs of the module, of which some may be `Padded`.
    normalizes: Whether this call uses statistics of the batch. If not, rows are independent and no mask is given.
    takes_mask: Whether the module has the keyword `mask`.

  Returns:
    The values, and `{}` or `{"mask": ...}`: bool `[n, 1, ...]` with as many axes as the values, as `nn.BatchNorm` takes
    it, or for a module of several inputs a tuple of masks, None for those that are not padded. A batch that is nothing
    but padding counts as real, so that its statistics are finite.

  Raises:
    ValueError: if the module has no keyword `mask` and needs one.
  """
  values = tuple(map(values_of, inputs))
  if not normalizes or not any(isinstance(one, Padded) for one in inputs):
    return values, {}
  if not takes_mask:
    raise ValueError(
      f"expected no padded rows in a training pass of {name}, whose batch statistics would include them, as its call "
      "takes no mask: use a network that does, such as conv4 or resnet12, or one without batch statistics"
    )
  masks = tuple(_mask_of(one) if isinstance(one, Padded) else None for one in inputs)
  return values, {"mask": masks[0] if len(masks) == 1 else masks}


def _mask_of(inputs: Padded) -> Array:
  mask = jnp.asarray(inputs.mask, bool)
  axes = jax.tree.leaves(inputs.values)[0].ndim
  return (mask | ~mask.any()).reshape(-1, *[1] * (axes - 1))
