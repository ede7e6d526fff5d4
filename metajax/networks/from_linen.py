"""Linen modules as `Network`s."""

import functools

import flax.linen as nn
import jax

from metajax.types import Network


def from_linen(module: nn.Module) -> Network:
  """A `Network` from a linen module whose `__call__` takes the inputs and a keyword `train`.

  The collection "params" becomes the params; every other collection (running statistics) is the state, which a pass
  with `train=True` updates. Where no key is given `nn.Dropout` passes its input on.
  """

  def init(key, *inputs):
    # Compiled, so that the pass whose outputs nobody wants is never run.
    variables = dict(jax.jit(functools.partial(module.init, train=False))(key, *inputs))
    return variables.pop("params", {}), variables

  def apply(params, state, *inputs, train, key=None):
    variables = {"params": params, **state}
    rngs = {} if key is None else {"dropout": key}
    with nn.intercept_methods(_no_noise_without_key(key)):
      if not (train and state):
        return module.apply(variables, *inputs, train=train, rngs=rngs), state
      outputs, updated = module.apply(variables, *inputs, train=train, rngs=rngs, mutable=list(state))
    return outputs, {**state, **updated}

  return Network(init, apply)


def _no_noise_without_key(key):
  def interceptor(call, arguments, keywords, context):
    if key is None and isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
      return arguments[0] if arguments else keywords["inputs"]
    return call(*arguments, **keywords)

  return interceptor
