"""Linen modules as `Network`s."""

import functools
import inspect
from collections.abc import Callable

import flax.linen as nn
import jax

from metajax.types import Network


def from_linen(module: nn.Module) -> Network:
  """A `Network` from a linen module whose `__call__` takes the inputs and a keyword `train`, or `deterministic`.

  `deterministic`, or `use_running_average` (`nn.BatchNorm`), is given what `train` is not. A module of inputs alone,
  such as `nn.Dense(5)`, is the same in training and after. The collection "params" becomes the params; every other
  collection (running statistics) is the state, which a pass with `train=True` updates. Where no key is given
  `nn.Dropout` passes its input on.

  Raises:
    TypeError: if it is no linen module, or takes none of these and has a switch, such as `training=False`, which nobody
      would set.
  """
  told = _how_told(module)

  def init(key, *inputs):
    # Compiled, so that the pass whose outputs nobody wants is never run.
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
  """How a module's `__call__` is told whether it is trained: keywords from `train`."""
  if not isinstance(module, nn.Module):
    given = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
    raise TypeError(f"expected a linen module, such as nn.Dense(5), got {given}")
  taken = dict(inspect.signature(type(module).__call__).parameters)
  kinds = {parameter.kind for parameter in taken.values()}
  # Sequential hands its keywords to its first layer, which may take none.
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
