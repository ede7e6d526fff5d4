"""The layers of a transformer, one after the other: as a loop or a scan, kept or computed again for the gradient."""

from collections.abc import Callable
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from metajax.mesh import GATHERED, gather_layer, shards_layers
from metajax.networks.linen.transformer import Layer
from metajax.types import Array

Remat = Literal["none", "dots", "full"]


def run_layers(module: nn.Module, tokens: Array, train: bool, causal: bool = False) -> list[Array]:
  """Runs the layers of a transformer, within `__call__` of its module.

  Args:
    module: Module with `size`, `dropout`, `dtype`, `details`, `remat` and `scan`.
    tokens: Tokens `[n, tokens, width]`.
    train: As for all networks.
    causal: Whether a token attends only to itself and to earlier tokens.

  Returns:
    The input of each layer and the output of the last, `num_layers + 1` arrays `[n, tokens, width]`.
  """
  how, number = (module.size, module.dropout, module.dtype, module.details), module.size.num_layers
  plain = not train or (module.remat == "none" and not module.scan and not shards_layers())
  if plain or module.is_initializing():
    states = [tokens]
    for i in range(number):
      states.append(Layer(*how, name=f"layer_{i}")(states[-1], train, causal)[0])
    return states
  noisy = module.dropout > 0 and module.has_rng("dropout")
  given = [
    (module.get_variable("params", f"layer_{i}"), module.make_rng("dropout") if noisy else None) for i in range(number)
  ]
  layer = Layer(*how, parent=None)

  def one(tokens, given):
    params, key = given
    rngs = {} if key is None else {"dropout": key}
    return layer.apply({"params": gather_layer(params)}, tokens, train, causal, rngs=rngs)[0]

  lean = _rematerialized(one, module.remat, module.scan)
  if not module.scan:
    states = [tokens]
    for some in given:
      states.append(lean(states[-1], some))
    return states
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *given)
  last, inputs = lax.scan(lambda tokens, some: (lean(tokens, some), tokens), tokens, stacked)
  return [*inputs, last]


def check_remat(remat: str):
  """Raises a ValueError that quotes what was given unless it is a `Remat`."""
  if remat not in get_args(Remat):
    raise ValueError(f"expected remat to be one of {', '.join(map(repr, get_args(Remat)))}, got {remat!r}")


def _rematerialized(one: Callable, remat: str, scan: bool) -> Callable:
  """The layer, with what its gradient computes again; gathered parameters are always gathered again.

  A scan keeps no more than "dots": whatever it keeps is written out for all layers, and of attention that takes longer
  than to compute it again.
  """
  policies = jax.checkpoint_policies
  if remat == "full":
    policy = policies.nothing_saveable
  elif remat == "dots" or scan:
    policy = _is_product
  else:
    policy = policies.save_anything_except_these_names(GATHERED)
  return jax.checkpoint(one, policy=policy, prevent_cse=not scan)


def _is_product(primitive, *arrays, **params) -> bool:
  """Whether an operation is a product of tokens with a matrix."""
  products = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  return primitive.name == "matmul" or products(primitive, *arrays, **params)
