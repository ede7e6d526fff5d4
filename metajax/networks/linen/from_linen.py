"""Linen modules as `Network`s."""

import functools
import inspect
from collections.abc import Callable

import flax.linen as nn
import jax

from metajax.types import Network


def from_linen(module: nn.Module) -> Network:
  """Makes a `Network` from a linen module.

  The collection "params" becomes the params; all other collections (running statistics) become the state, which
  `train=True` updates. Without a key, `nn.Dropout` is the identity.

  Args:
    module: Linen module whose `__call__` takes the inputs and a keyword `train`; or `deterministic` or
      `use_running_average` (`nn.BatchNorm`), which get `not train`. A module that takes only inputs, such as
      `nn.Dense(5)`, behaves the same in training and evaluation.

  Returns:
    A Network with the module's inputs and outputs.

  Raises:
    TypeError: if `module` is not a linen module, or its `__call__` has another switch, such as `training=False`, which
      would never be set.

  Example:
    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> from metajax.networks import from_linen
    >>> network, inputs = from_linen(nn.Dense(5)), jnp.zeros([4, 3])
    >>> params, state = network.init(jax.random.key(0), inputs)
    >>> network.apply(params, state, inputs, train=False)[0].shape
    (4, 5)
  """
  told = _how_told(module)

  def init(key, *inputs):
    # Compiled, so that the unused forward pass is eliminated.
    variables = dict(jax.jit(functools.partial(module.init, **told(False)))(key, *inputs))
    return variables.pop("params", {}), variables

  def apply(params, state, *inputs, train, key=None):
    variables = {"params": params, **state}
    rngs = {} if key is None else {"dropout": key}
    with nn.intercept_methods(_no_noise_without_key(key)):
      if not (train and state):
        return module.apply(variables, *inputs, **told(train), rngs=rngs), state
      outputs, updated = module.apply(variables, *inputs, **told(train), rngs=rngs, mutable=list(state))
    return outputs, {**state, **updated}

  return Network(init, apply)


def _how_told(module) -> Callable[[bool], dict]:
  """Returns a function from `train` to the keywords of the module's `__call__`."""
  if not isinstance(module, nn.Module):
    given = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
    raise TypeError(f"expected a linen module, such as nn.Dense(5), got {given}")
  taken = dict(inspect.signature(type(module).__call__).parameters)
  kinds = {parameter.kind for parameter in taken.values()}
  # Sequential passes its keywords to its first layer, which may accept none.
  if "train" in taken or (inspect.Parameter.VAR_KEYWORD in kinds and not isinstance(module, nn.Sequential)):
    return lambda train: {"train": train}
  for name in ("deterministic", "use_running_average"):
    if name in taken:
      return lambda train: {name: not train}

  def needed(p):
    return p.kind is p.KEYWORD_ONLY and p.default is p.empty

  if more := [name for name, p in taken.items() if isinstance(p.default, bool) or needed(p)]:
    given = f"{type(module).__name__}.__call__ with {', '.join(more)}"
    raise TypeError(f"expected a module whose __call__ takes the keyword train or deterministic, or none, got {given}")
  return lambda train: {}


def _no_noise_without_key(key):
  def interceptor(call, arguments, keywords, context):
    if key is None and isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
      return arguments[0] if arguments else keywords["inputs"]
    return call(*arguments, **keywords)

  return interceptor
