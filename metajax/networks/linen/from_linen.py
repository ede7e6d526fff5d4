"""Linen modules as `Network`s."""

import functools

import flax.errors
import flax.linen as nn
import jax

from metajax import checks
from metajax.networks._flags import flags_of, parameters_of
from metajax.networks._padding import unpad
from metajax.types import Network


def from_linen(module: nn.Module) -> Network:
  """Makes a `Network` from a linen module.

  The collection "params" becomes the params, and all other collections (running statistics, a cache) the state, which
  is returned as the module leaves it. Boxes of `nn.with_partitioning` are removed. The key serves random numbers of any
  name. Without a key, `nn.Dropout` and the dropout of attention are the identity. A training pass of a module with
  state hands the mask of `Padded` inputs, bool `[n, 1, ...]`, to the keyword `mask` of its `__call__`, which passes it
  on to `nn.BatchNorm`; that of several inputs is a tuple, None for an input that is not padded.

  Args:
    module: Linen module whose `__call__` takes the inputs and any of the keywords `train`, `training`, `is_training`,
      `deterministic` and `use_running_average` (`nn.BatchNorm`); the last two get `not train`, and `deterministic`
      next to another flag, or in a module without state, is also true without a key. A module that takes only inputs,
      such as `nn.Dense(5)`, behaves the same in training and evaluation.

  Returns:
    A Network with the module's inputs and outputs.

  Raises:
    TypeError: if `module` is not a linen module, or its `__call__` has another switch, such as `enable_dropout=False`,
      which would never be set.
    ValueError: at apply, if the module draws random numbers and no key is given, or images are uint8; in a training
      pass, if rows are padded and the module, which keeps a state, takes no mask.

  Example:
    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> from metajax.networks import from_linen
    >>> network, inputs = from_linen(nn.Dense(5)), jnp.zeros([4, 3])
    >>> params, state = network.init(jax.random.key(0), inputs)
    >>> network.apply(params, state, inputs, train=False)[0].shape
    (4, 5)
  """
  name = _checked_name(module)
  # Sequential passes its keywords to its first layer, which may accept none.
  taken = parameters_of(type(module).__call__)
  flags = flags_of(f"{name}.__call__", taken, into_keywords=not isinstance(module, nn.Sequential))

  def init(key, *inputs):
    checks.not_bytes(f"the inputs of {name}", inputs)
    # Compiled, so that the unused forward pass is eliminated.
    values, _ = unpad(name, inputs, normalizes=False)
    made = jax.jit(functools.partial(module.init, **flags(False, True, True)))(key, *values)
    variables = dict(nn.meta.unbox(made))
    return variables.pop("params", {}), variables

  def apply(params, state, *inputs, train, key=None):
    checks.not_bytes(f"the inputs of {name}", inputs)
    # A stream that is not named here falls back to "params".
    rngs = {} if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)}
    values, masks = unpad(name, inputs, train and bool(state), "mask" in taken)
    told = {**flags(train, key is not None, bool(state)), **masks}
    with nn.intercept_methods(_no_noise_without_key(key)):
      try:
        run = functools.partial(module.apply, {"params": params, **state}, *values, **told, rngs=rngs)
        outputs, updated = run(mutable=list(state)) if state else (run(), {})
      except flax.errors.InvalidRngError as error:
        raise ValueError(f"expected a key, because {name} itself draws random numbers, got none: {error}") from error
    return outputs, {**state, **updated}

  return Network(init, apply)


def _checked_name(module) -> str:
  if not isinstance(module, nn.Module):
    given = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
    raise TypeError(f"expected a linen module, such as nn.Dense(5), got {given}")
  return type(module).__name__


def _no_noise_without_key(key):
  def interceptor(call, arguments, keywords, context):
    module = context.module
    if key is None and context.method_name == "__call__":
      if isinstance(module, nn.Dropout):
        return arguments[0] if arguments else keywords["inputs"]
      if isinstance(module, nn.MultiHeadDotProductAttention):
        # Its dropout is a function, not a module. This copy of the module lives only for this call of apply.
        object.__setattr__(module, "dropout_rate", 0.0)
    return call(*arguments, **keywords)

  return interceptor
