"""Networks from several: one after the other, beside each other, on parts or pairs of inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.types import Key, Network, Params, State


def with_head(encoder: Network, head: Network) -> Network:
  """`head(encoder(inputs))`, with params and state `{"encoder": ..., "head": ...}`, so that either can be had alone.

  Raises:
    TypeError: if one of them is no Network.
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
    outputs, head_state = head.apply(params["head"], state["head"], features, train=train, key=head_key)
    return outputs, {"encoder": encoder_state, "head": head_state}

  return Network(init, apply)


def tied(encoder: Network) -> Network:
  """One encoder on every part of an input: `[n, parts, ...] -> [n, parts * features]` (tiles, frames, views).

  Raises:
    TypeError: if it is no Network.
  """
  check_networks(encoder=encoder)

  def flat(inputs):
    return inputs.reshape((-1, *inputs.shape[2:]))

  def init(key, inputs):
    return encoder.init(key, flat(inputs))

  def apply(params, state, inputs, *, train, key=None):
    features, state = encoder.apply(params, state, flat(inputs), train=train, key=key)
    return features.reshape(len(inputs), -1), state

  return Network(init, apply)


def parallel(**towers: Network) -> Network:
  """A tower for each named input: `{name: [n, ...]} -> [n, sum of the towers' features]`, in the order given.

  Raises:
    TypeError: if a tower is no Network.
  """
  check_networks(**towers)

  def init(key, inputs):
    made = {name: towers[name].init(k, inputs[name]) for name, k in zip(towers, split(key, len(towers)), strict=True)}
    return {name: params for name, (params, _) in made.items()}, {name: state for name, (_, state) in made.items()}

  def apply(params, state, inputs, *, train, key=None):
    features, new_state = [], {}
    for name, k in zip(towers, split(key, len(towers)), strict=True):
      tower, new_state[name] = towers[name].apply(params[name], state[name], inputs[name], train=train, key=k)
      features.append(tower)
    return jnp.concatenate(features, axis=-1), new_state

  return Network(init, apply)


def on_pairs(network: Network) -> Network:
  """A network of two features side by side, on every pair of one of each: `[k, ..., c]` and `[n, ..., c]` to `[n, k]`.

  Args:
    network: `[m, ..., 2 c]` to `[m, 1]`.

  Raises:
    TypeError: if it is no Network.
    ValueError: when applied, if the network gives another number of outputs than one a pair.
  """
  check_networks(network=network)

  def pairs(first, second):
    shape = (len(second), *first.shape)
    both = [jnp.broadcast_to(first[None], shape), jnp.broadcast_to(second[:, None], shape)]
    return jnp.concatenate(both, -1).reshape(-1, *shape[2:-1], 2 * shape[-1])

  def init(key, first, second):
    return network.init(key, pairs(first, second))

  def apply(params, state, first, second, *, train, key=None):
    given = pairs(first, second)
    outputs, state = network.apply(params, state, given, train=train, key=key)
    if outputs.shape != (len(given), 1):
      raise ValueError(f"expected a network from {len(given)} pairs to [{len(given)}, 1], got {list(outputs.shape)}")
    return outputs.reshape(len(second), len(first)), state

  return Network(init, apply)


def check_networks(**networks: Any):
  """Looks at what is given for networks.

  Raises:
    TypeError: naming the first that is no Network.
  """
  for name, network in networks.items():
    checks.record(name, network, Network, "networks.from_linen(module) makes one of a linen module")


def split(key: Key | None, count: int) -> Any:
  """As many keys, or as many None where there is none."""
  return (None,) * count if key is None else jax.random.split(key, count)


def blank(function: Callable, *given: Any) -> Any:
  """Zeros as what a function gives: what comes after it is only told their shape at init, so no pass is run."""
  shapes = jax.eval_shape(lambda: function(*given))
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def blank_features(network: Network, params: Params, state: State, *inputs: Any) -> Any:
  """Zeros as what a network gives."""
  return blank(lambda: network.apply(params, state, *inputs, train=False)[0])
