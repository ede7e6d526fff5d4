"""Networks from networks, in plain JAX."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from metajax.mesh import device_count
from metajax.types import Array, Network


def linear(outputs: int, scale: float = 1.0) -> Network:
  """`features @ weight + bias`: `[n, d] -> [n, outputs]`, weight drawn from N(0, scale^2 / d), bias 0.

  Raises:
    ValueError: at init, if the features are not `[n, d]`.
  """

  def init(key, features):
    if jnp.ndim(features) != 2:
      raise ValueError(f"expected features [n, d], got an array of shape {list(jnp.shape(features))}")
    d = features.shape[-1]
    return {"weight": scale * jax.random.normal(key, (d, outputs)) / np.sqrt(d), "bias": jnp.zeros(outputs)}, {}

  def apply(params, state, features, *, train, key=None):
    return features @ params["weight"] + params["bias"], state

  return Network(init, apply)


def cosine(outputs: int, scale: float = 10.0) -> Network:
  """`scale * cos(features, weight_k)`, a classifier that sees directions alone (arXiv:1804.09458, 1904.04232).

  `[n, d] -> [n, outputs]`, between -scale and scale; directions are drawn from N(0, 1/d).

  Raises:
    ValueError: at init, if the features are not `[n, d]`.
  """
  plain = linear(outputs)

  def init(key, features):
    params, state = plain.init(key, features)
    return {"weight": params["weight"]}, state

  def apply(params, state, features, *, train, key=None):
    return scale * unit_rows(features) @ unit_rows(params["weight"].T).T, state

  return Network(init, apply)


def perceptron(hidden: int, outputs: int) -> Network:
  """A hidden layer of `hidden` ReLUs, then a linear one: `[n, d] -> [n, outputs]`; with 0 hidden, linear from zeros.

  Raises:
    ValueError: if `hidden` is below 0.
  """
  if hidden < 0:
    raise ValueError(f"expected at least 0 hidden units, got {hidden}")
  if not hidden:
    return linear(outputs, scale=0.0)
  first = linear(hidden, scale=np.sqrt(2))

  def activated(params, state, features, *, train, key=None):
    return jax.nn.relu(first.apply(params, state, features, train=train)[0]), state

  return with_head(Network(first.init, activated), linear(outputs))


def unit_rows(features: Array) -> Array:
  """`x / |x|` of each row; a row of zeros stays, and its gradient is 0: `[n, d] -> [n, d]`."""
  size = lax.stop_gradient(jnp.abs(features).max(-1, keepdims=True))
  scaled = features / jnp.where(size > 0, size, 1)  # so that no square overflows or vanishes
  squared = jnp.square(scaled).sum(-1, keepdims=True)
  return jnp.where(size > 0, scaled * lax.rsqrt(jnp.where(size > 0, squared, 1)), 0)


def zeros_for_all_ways(params, labels: Array):
  """The params of a linear head of one output, as zeros for as many outputs as labels `[n, ways]` have.

  Of params with a "head" (`with_head`), those of the head. So any number of ways can be had, and their order does not
  matter. Nothing is learned of such a start, and nothing is lost: what all ways have in common cancels out of the
  softmax, and out of the inner gradient of the features, after any number of steps. The first step moves the head
  alone, so MAML needs two at least to adapt its encoder.

  Raises:
    ValueError: if the head has another number of outputs than one.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": zeros_for_all_ways(params["head"], labels)}
  for leaf in jax.tree.leaves(params):
    if jnp.shape(leaf)[-1:] != (1,):
      raise ValueError(f"expected a head of one output, such as linear(1), got a leaf of shape {list(jnp.shape(leaf))}")
  return jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], labels.shape[-1]), x.dtype), params)


def repeated_for_all_ways(params, labels: Array):
  """The params of a linear head with its outputs again and again, for as many as labels `[n, ways]` have.

  Of params with a "head" (`with_head`), those of the head. As many ways as outputs are the head itself, fewer its first
  ones. Ways beyond start as copies of others, which the first step of adaptation tells apart, so that a network trained
  at 5 ways is tested at 20.
  """
  if isinstance(params, dict) and "head" in params:
    return {**params, "head": repeated_for_all_ways(params["head"], labels)}
  return jax.tree.map(lambda x: x[..., np.arange(labels.shape[-1]) % x.shape[-1]], params)


def with_head(encoder: Network, head: Network) -> Network:
  """`head(encoder(inputs))`, with params and state `{"encoder": ..., "head": ...}`, so that either can be had alone."""

  def init(key, *inputs):
    encoder_key, head_key = jax.random.split(key)
    encoder_params, encoder_state = encoder.init(encoder_key, *inputs)
    # The head is only told the features' shape, so no pass is run.
    shapes = jax.eval_shape(lambda: encoder.apply(encoder_params, encoder_state, *inputs, train=False)[0])
    features = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    head_params, head_state = head.init(head_key, features)
    return {"encoder": encoder_params, "head": head_params}, {"encoder": encoder_state, "head": head_state}

  def apply(params, state, *inputs, train, key=None):
    encoder_key, head_key = _split(key, 2)
    features, encoder_state = encoder.apply(params["encoder"], state["encoder"], *inputs, train=train, key=encoder_key)
    outputs, head_state = head.apply(params["head"], state["head"], features, train=train, key=head_key)
    return outputs, {"encoder": encoder_state, "head": head_state}

  return Network(init, apply)


def started(network: Network, params, state=None) -> Network:
  """The same network, which starts at given params (and state), such as those of another learner's encoder.

  So fine-tuning is a learner as any other: `supervised(started(encoder, *pretrained))`. Where `state` is None, the
  network's own start is taken.

  Raises:
    ValueError: at init, if the network has params or state of other shapes on these inputs.
  """

  def init(key, *inputs):
    expected = jax.eval_shape(network.init, key, *inputs)
    own = state if state is not None else network.init(key, *inputs)[1]
    shapes = lambda tree: jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)
    for name, wanted, given in zip(("params", "state"), expected, (params, own), strict=True):
      if jax.tree.structure(wanted) != jax.tree.structure(given) or shapes(wanted) != shapes(given):
        raise ValueError(f"expected {name} as the network's own, {shapes(wanted)}, got {shapes(given)}")
    return jax.tree.map(jnp.array, (params, own))  # copies: a training may be given the buffers

  return Network(init, network.apply)


def prepared(network: Network, prepare: Callable) -> Network:
  """The same network on inputs that are prepared first, each row on its own: `network(prepare(x))`.

  Args:
    network: of what `prepare` gives.
    prepare: of one input, such as `lambda x: views.image.centred()(None, x)`.
  """
  each = jax.vmap(prepare)

  def apply(params, state, inputs, *, train, key=None):
    return network.apply(params, state, each(inputs), train=train, key=key)

  return Network(lambda key, inputs: network.init(key, each(inputs)), apply)


def frozen(network: Network) -> Network:
  """The same network, which no longer learns: it is as in testing, its state stays, and no gradient reaches its params.

  Activations are not kept for a backward pass. `train.locked` keeps an optimizer's weight decay off the params too.
  """

  def apply(params, state, *inputs, train, key=None):
    outputs, _ = network.apply(lax.stop_gradient(params), state, *inputs, train=False)
    return lax.stop_gradient(outputs), state

  return Network(network.init, apply)


def tied(encoder: Network) -> Network:
  """One encoder on every part of an input: `[n, parts, ...] -> [n, parts * features]` (tiles, frames, views)."""
  flat = lambda inputs: inputs.reshape((-1, *inputs.shape[2:]))

  def init(key, inputs):
    return encoder.init(key, flat(inputs))

  def apply(params, state, inputs, *, train, key=None):
    features, state = encoder.apply(params, state, flat(inputs), train=train, key=key)
    return features.reshape(len(inputs), -1), state

  return Network(init, apply)


def beside(**towers: Network) -> Network:
  """A tower for each named input: `{name: [n, ...]} -> [n, sum of the towers' features]`, in the order given."""

  def init(key, inputs):
    made = {name: towers[name].init(k, inputs[name]) for name, k in zip(towers, _split(key, len(towers)), strict=True)}
    return {name: params for name, (params, _) in made.items()}, {name: state for name, (_, state) in made.items()}

  def apply(params, state, inputs, *, train, key=None):
    features, new_state = [], {}
    for name, k in zip(towers, _split(key, len(towers)), strict=True):
      tower, new_state[name] = towers[name].apply(params[name], state[name], inputs[name], train=train, key=k)
      features.append(tower)
    return jnp.concatenate(features, axis=-1), new_state

  return Network(init, apply)


def on_pairs(network: Network) -> Network:
  """A network of two features side by side, on every pair of one of each: `[k, ..., c]` and `[n, ..., c]` to `[n, k]`.

  Args:
    network: `[m, ..., 2 c]` to `[m, 1]`.

  Raises:
    ValueError: when applied, if the network gives another number of outputs than one a pair.
  """

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


def chunked(network: Network, rows: int) -> Network:
  """The same network, `rows` rows at a time, each chunk computed again in the backward pass.

  Values and gradients are those of the whole batch, while the activations of one chunk at a time are held: exact large
  batches for contrastive losses (gradient caching, arXiv:2101.06983). Under a mesh a chunk has rows of every device.

  Where a key is given each row has one of its own, drawn from its place in the batch, so that noise does not depend on
  `rows`: it is the same for chunks of one row and for one chunk of all.

  Args:
    network: inputs, pytrees of arrays `[n, ...]`, to outputs `[n, ...]`, row by row; it keeps no state.
    rows: of a chunk, at least 1; all rows, if the batch has fewer.

  Raises:
    ValueError: if `rows` is below 1; at init, if the network keeps state: statistics of a chunk are not those of the
      batch; when applied, if the batch does not divide by `rows`, or a chunk by the devices.
  """
  if rows < 1:
    raise ValueError(f"expected chunks of at least 1 row, got {rows}")

  def init(key, *inputs):
    params, state = network.init(key, *jax.tree.map(lambda x: x[:rows], inputs))
    if jax.tree.leaves(state):
      raise ValueError("chunked needs a network without state: batch statistics of a chunk are not the batch's")
    return params, state

  def apply(params, state, *inputs, train, key=None):
    total = jax.tree.leaves(inputs)[0].shape[0]
    chunk, devices = min(rows, total), device_count()
    if total % chunk:
      raise ValueError(f"expected a batch that divides into chunks of {rows} rows, got {total} rows")
    if chunk % devices:
      raise ValueError(f"expected chunks that divide by the {devices} devices of the mesh, got chunks of {chunk} rows")

    @jax.checkpoint
    def one(params, inputs, keys):
      if keys is None:
        return network.apply(params, state, *inputs, train=train)[0]
      alone = lambda key, *row: network.apply(params, state, *(x[None] for x in row), train=train, key=key)[0][0]
      return jax.vmap(alone)(keys, *inputs)

    # A chunk takes its share of each device's rows: none moves.
    split = lambda x: x.reshape((devices, total // chunk, chunk // devices, *x.shape[1:])).swapaxes(0, 1)
    chunks = lambda x: split(x).reshape((total // chunk, chunk, *x.shape[1:]))
    whole = lambda x: x.reshape((total // chunk, devices, chunk // devices, *x.shape[2:])).swapaxes(0, 1)
    keys = None if key is None else jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(total))
    outputs = lax.map(lambda chunk: one(params, *chunk), jax.tree.map(chunks, (inputs, keys)))
    return jax.tree.map(lambda x: whole(x).reshape((total, *x.shape[2:])), outputs), state

  return Network(init, apply)


def flatten() -> Network:
  """`[n, ...] -> [n, d]`."""

  def apply(params, state, inputs: Array, *, train, key=None):
    return inputs.reshape(len(inputs), -1), state

  return Network(lambda key, inputs: ({}, {}), apply)


def _split(key, count):
  return (None,) * count if key is None else jax.random.split(key, count)
