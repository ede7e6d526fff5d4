"""Networks with a second input: a context vector that all rows share."""

import jax.numpy as jnp

from metajax.compose.combinators import blank_features, check_networks, features_for, split
from metajax.compose.heads import linear
from metajax.tree import padded_like, values_of
from metajax.types import Network


def concat_context(network: Network) -> Network:
  """Appends a context vector to every input row.

  Args:
    network: Network of inputs `[n, d + c]`.

  Returns:
    A Network of inputs `[n, d]` and a context `[c]`.

  Raises:
    TypeError: if `network` is not a Network.
    ValueError: when used, if the inputs are not `[n, d]`.
  """
  check_networks(network=network)

  def with_context(inputs, context):
    rows = values_of(inputs)
    if jnp.ndim(rows) != 2:
      raise ValueError(f"expected inputs [n, d] to append a context to, got an array of shape {list(jnp.shape(rows))}")
    both = jnp.concatenate([rows, jnp.broadcast_to(context, (rows.shape[0], *context.shape))], axis=-1)
    return padded_like(both, inputs)

  def init(key, inputs, context):
    return network.init(key, with_context(inputs, context))

  def apply(params, state, inputs, context, *, train, key=None):
    return network.apply(params, state, with_context(inputs, context), train=train, key=key)

  return Network(init, apply)


def film(before: Network, after: Network) -> Network:
  """Scales and shifts each channel between two networks by a context vector (FiLM, arXiv:1709.07871):

      after((1 + scale) * before(inputs) + shift),   (scale, shift) = linear(context)

  At initialization a context of zeros changes nothing.

  Args:
    before: Network from inputs to features `[n, ..., channels]`.
    after: Network from these features to outputs.

  Returns:
    A Network of inputs and a context `[c]`, with params and state `{"before": ..., "modulation": ..., "after": ...}`.

  Raises:
    TypeError: if `before` or `after` is not a Network.
  """
  check_networks(before=before, after=after)

  def init(key, inputs, context):
    keys = split(key, 3)
    params, state = before.init(keys[0], inputs)
    features = blank_features(before, params, state, inputs)
    modulation, _ = linear(2 * features.shape[-1]).init(keys[1], context[None])
    after_params, after_state = after.init(keys[2], features)
    return (
      {"before": params, "modulation": modulation, "after": after_params},
      {"before": state, "modulation": {}, "after": after_state},
    )

  def apply(params, state, inputs, context, *, train, key=None):
    before_key, after_key = split(key, 2)
    features, before_state = before.apply(params["before"], state["before"], inputs, train=train, key=before_key)
    change, _ = linear(2 * features.shape[-1]).apply(params["modulation"], {}, context[None], train=train)
    scale, shift = jnp.split(change[0], 2)
    changed = features_for(state["after"], (1 + scale) * features + shift, inputs)
    outputs, after_state = after.apply(params["after"], state["after"], changed, train=train, key=after_key)
    return outputs, {"before": before_state, "modulation": {}, "after": after_state}

  return Network(init, apply)
