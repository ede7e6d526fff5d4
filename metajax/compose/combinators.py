"""Combinators of several networks: in sequence, in parallel, on parts or pairs of inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.tree import padded_like, values_of
from metajax.types import Inputs, Key, Network, Padded, Params, State


def with_head(encoder: Network, head: Network) -> Network:
  """Appends a head to an encoder: `head(encoder(inputs))`.

  A head that keeps a state is given the features of `Padded` inputs as `Padded`.

  Args:
    encoder: Network from inputs to features.
    head: Network from features to outputs, e.g. `linear(10)`.

  Returns:
    A Network with params and state `{"encoder": ..., "head": ...}`, so that either part can be used alone.

  Raises:
    TypeError: if `encoder` or `head` is not a Network.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.compose import linear, with_head
    >>> network = with_head(linear(16), linear(5))
    >>> params, state = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros([8, 20]))
    >>> params["encoder"]["weight"].shape, params["head"]["weight"].shape
    ((20, 16), (16, 5))
  """
  check_networks(encoder=encoder, head=head)

  def init(key, *inputs):
    encoder_key, head_key = jax.random.split(key)
    encoder_params, encoder_state = encoder.init(encoder_key, *inputs)
    head_params, head_state = head.init(head_key, blank_features(encoder, encoder_params, encoder_state, *inputs))
    return {"encoder": encoder_params, "head": head_params}, {"encoder": encoder_state, "head": head_state}

  def apply(params, state, *inputs, train, key=None):
    encoder_key, head_key = split(key, 2)
    features, encoder_state = encoder.apply(params["encoder"], state["encoder"], *inputs, train=train, key=encoder_key)
    given = features_for(state["head"], features, inputs[0])
    outputs, head_state = head.apply(params["head"], state["head"], given, train=train, key=head_key)
    return outputs, {"encoder": encoder_state, "head": head_state}

  return Network(init, apply)


def tied(encoder: Network) -> Network:
  """Applies one encoder to every part of an input (tiles, frames, views) and concatenates the features.

  Args:
    encoder: Network from `[m, ...]` to `[m, features]`.

  Returns:
    A Network from `[n, parts, ...]` to `[n, parts * features]`.

  Raises:
    TypeError: if `encoder` is not a Network.
  """
  check_networks(encoder=encoder)

  def flat(inputs):
    values = values_of(inputs)
    parts = values.reshape((-1, *values.shape[2:]))
    return Padded(parts, jnp.repeat(inputs.mask, values.shape[1])) if isinstance(inputs, Padded) else parts

  def init(key, inputs):
    return encoder.init(key, flat(inputs))

  def apply(params, state, inputs, *, train, key=None):
    features, state = encoder.apply(params, state, flat(inputs), train=train, key=key)
    return features.reshape(values_of(inputs).shape[0], -1), state

  return Network(init, apply)


def parallel(**towers: Network) -> Network:
  """Applies one tower per named input and concatenates the features, in the order of the arguments.

  Args:
    **towers: Network per input name.

  Returns:
    A Network from `{name: [n, ...]}` to `[n, sum of the towers' features]`.

  Raises:
    TypeError: if a tower is not a Network.
  """
  check_networks(**towers)

  def part(inputs, name):
    return padded_like(values_of(inputs)[name], inputs)

  def init(key, inputs):
    keys = dict(zip(towers, split(key, len(towers)), strict=True))
    made = {name: tower.init(keys[name], part(inputs, name)) for name, tower in towers.items()}
    return {name: params for name, (params, _) in made.items()}, {name: state for name, (_, state) in made.items()}

  def apply(params, state, inputs, *, train, key=None):
    features, new_state = [], {}
    for name, k in zip(towers, split(key, len(towers)), strict=True):
      tower, new_state[name] = towers[name].apply(params[name], state[name], part(inputs, name), train=train, key=k)
      features.append(tower)
    return jnp.concatenate(features, axis=-1), new_state

  return Network(init, apply)


def on_pairs(network: Network) -> Network:
  """Applies a network to every pair of two sets of features, concatenated along the channels.

  Args:
    network: Network from `[m, ..., 2 c]` to `[m, 1]`.

  Returns:
    A Network from `[k, ..., c]` and `[n, ..., c]` to `[n, k]`.

  Raises:
    TypeError: if `network` is not a Network.
    ValueError: when applied, if `network` does not return one output per pair.
  """
  check_networks(network=network)

  def pairs(first, second):
    if isinstance(first, Padded) or isinstance(second, Padded):
      of_both = pairs(values_of(first), values_of(second))
      there = [x.mask if isinstance(x, Padded) else jnp.ones(len(x), bool) for x in (first, second)]
      return Padded(of_both, (there[1][:, None] & there[0]).reshape(-1))
    shape = (second.shape[0], *first.shape)
    both = [jnp.broadcast_to(first[None], shape), jnp.broadcast_to(second[:, None], shape)]
    return jnp.concatenate(both, -1).reshape(-1, *shape[2:-1], 2 * shape[-1])

  def init(key, first, second):
    return network.init(key, pairs(first, second))

  def apply(params, state, first, second, *, train, key=None):
    given = pairs(first, second)
    outputs, state = network.apply(params, state, given, train=train, key=key)
    number = values_of(given).shape[0]
    if outputs.shape != (number, 1):
      raise ValueError(f"expected a network from {number} pairs to [{number}, 1], got {list(outputs.shape)}")
    return outputs.reshape(values_of(second).shape[0], values_of(first).shape[0]), state

  return Network(init, apply)


def check_networks(**networks: Any):
  """Checks that all arguments are Networks.

  Raises:
    TypeError: if one is not a Network; the message names the first.
  """
  for name, network in networks.items():
    checks.record(name, network, Network, "networks.from_linen(module) makes one of a linen module")


def split(key: Key | None, count: int) -> Any:
  """Splits a key into `count` keys; without a key, returns `count` Nones."""
  return (None,) * count if key is None else jax.random.split(key, count)


def features_for(state: State, features: Any, inputs: Inputs) -> Inputs:
  """The features of some inputs for a head: `Padded` as these if the head keeps a state, which is of all rows."""
  return padded_like(features, inputs) if jax.tree.leaves(state) else features


def blank(function: Callable, *given: Any) -> Any:
  """Returns zeros in the shape of a function's result, without running it: later networks need only shapes at init."""
  shapes = jax.eval_shape(lambda: function(*given))
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def blank_features(network: Network, params: Params, state: State, *inputs: Any) -> Any:
  """Returns zeros in the shape of a network's outputs."""
  return blank(lambda: network.apply(params, state, *inputs, train=False)[0])
