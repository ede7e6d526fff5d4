"""Wrappers of one network: pretrained params, preprocessing, freezing, chunking."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.compose.combinators import check_networks
from metajax.mesh import device_count
from metajax.tree import padded_like, values_of
from metajax.types import Array, Network, Params, State


def with_pretrained_params(network: Network, params: Params, state: State | None = None) -> Network:
  """Initializes a network with given params (and state), e.g. those of a pretrained encoder.

  Fine-tuning then needs no special learner: `supervised(with_pretrained_params(encoder, *pretrained))`.

  Args:
    network: The Network.
    params: Its initial params, copied at init.
    state: Its initial state, copied at init; by default the state that the network initializes.

  Returns:
    A Network with the same `apply`.

  Raises:
    TypeError: if `network` is not a Network.
    ValueError: at init, if the network's params or state have other shapes on these inputs.
  """
  check_networks(network=network)

  def init(key, *inputs):
    expected = jax.eval_shape(network.init, key, *inputs)
    own = state if state is not None else network.init(key, *inputs)[1]
    for name, wanted, given in zip(("params", "state"), expected, (params, own), strict=True):
      if jax.tree.structure(wanted) != jax.tree.structure(given) or _shapes(wanted) != _shapes(given):
        raise ValueError(f"expected {name} of the network's shapes, {_shapes(wanted)}, got {_shapes(given)}")
    return jax.tree.map(jnp.array, (params, own))  # copies: training may donate the buffers

  return Network(init, network.apply)


def _shapes(tree):
  return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)


def with_preprocessing(network: Network, prepare: Callable[[Any], Any]) -> Network:
  """Preprocesses each input row before the network: `network(prepare(x))`.

  Args:
    network: Network of the preprocessed inputs.
    prepare: Function of one input, without the batch axis, e.g. `lambda x: augment.image.centered()(None, x)`.

  Returns:
    A Network of the raw inputs `[n, ...]`.

  Raises:
    TypeError: if `network` is not a Network, or `prepare` is not a function.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.compose import linear, with_preprocessing
    >>> network = with_preprocessing(linear(5), lambda image: image.reshape(-1) / 255)
    >>> params, _ = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros([4, 8, 8, 3]))
    >>> params["weight"].shape
    (192, 5)
  """
  check_networks(network=network)
  checks.function("prepare", prepare, "input -> input")

  def each(inputs):
    return padded_like(jax.vmap(prepare)(values_of(inputs)), inputs)

  def apply(params, state, inputs, *, train, key=None):
    return network.apply(params, state, each(inputs), train=train, key=key)

  return Network(lambda key, inputs: network.init(key, each(inputs)), apply)


def frozen(network: Network) -> Network:
  """Freezes a network: it runs with `train=False`, keeps its state, and passes no gradient to its params or inputs.

  Activations are not stored for a backward pass. An optimizer's weight decay would still change the params; exclude
  them with `optax.selective_transform`.

  Args:
    network: The Network to freeze.

  Returns:
    A Network with the same params and outputs.

  Raises:
    TypeError: if `network` is not a Network.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.compose import frozen, linear
    >>> network, inputs = frozen(linear(5)), jnp.ones([4, 3])
    >>> params, state = network.init(jax.random.key(0), inputs)
    >>> gradient = jax.grad(lambda params: network.apply(params, state, inputs, train=True)[0].sum())(params)
    >>> float(jnp.abs(gradient["weight"]).max())
    0.0
  """
  check_networks(network=network)

  def apply(params, state, *inputs, train, key=None):
    outputs, _ = network.apply(lax.stop_gradient(params), state, *inputs, train=False)
    return lax.stop_gradient(outputs), state

  return Network(network.init, apply)


def chunked(network: Network, rows: int) -> Network:
  """Runs a network on chunks of `rows` rows, and recomputes each chunk in the backward pass.

  Values and gradients equal those of the full batch, while only one chunk's activations are held at a time: exact large
  batches for contrastive losses (gradient caching, arXiv:2101.06983). Under a mesh each chunk has rows of every device.
  With a key, each row gets a key derived from its index in the batch, so noise does not depend on `rows`.

  Args:
    network: Network without state, from pytrees of arrays `[n, ...]` to outputs `[n, ...]`, row by row.
    rows: Rows per chunk, at least 1; a smaller batch is one chunk.

  Raises:
    TypeError: if `network` is not a Network.
    ValueError: if `rows` is not an integer of at least 1; at init, if the network has state (batch statistics of a
      chunk are not the batch's); when applied, if the batch is not divisible by `rows`, or a chunk by the number of
      devices.

  Example:
    >>> import jax
    >>> from metajax.compose import chunked, linear
    >>> network, inputs = chunked(linear(5), rows=8), jax.numpy.ones([32, 3])
    >>> params, state = network.init(jax.random.key(0), inputs)
    >>> network.apply(params, state, inputs, train=True)[0].shape
    (32, 5)
  """
  check_networks(network=network)
  checks.count("rows", rows)

  def init(key, *inputs):
    params, state = network.init(key, *jax.tree.map(lambda x: x[:rows], inputs))
    if jax.tree.leaves(state):
      raise ValueError("chunked needs a network without state: batch statistics of a chunk are not the batch's")
    return params, state

  def apply(params, state, *inputs, train, key=None):
    total = jax.tree.leaves(inputs)[0].shape[0]
    chunk, devices = min(rows, total), device_count()
    if total % chunk:
      raise ValueError(f"expected a batch divisible into chunks of {rows} rows, got {total} rows")
    if chunk % devices:
      raise ValueError(f"expected chunks divisible by the {devices} devices of the mesh, got chunks of {chunk} rows")

    @jax.checkpoint
    def one(params, inputs, keys):
      if keys is None:
        return network.apply(params, state, *inputs, train=train)[0]

      def alone(key, *row):
        return network.apply(params, state, *(x[None] for x in row), train=train, key=key)[0][0]

      return jax.vmap(alone)(keys, *inputs)

    keys = None if key is None else jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(total))
    chunks = jax.tree.map(lambda x: _split_chunks(x, chunk, devices), (inputs, keys))
    outputs = lax.map(lambda chunk: one(params, *chunk), chunks)
    return jax.tree.map(lambda x: _merge_chunks(x, devices), outputs), state

  return Network(init, apply)


def _split_chunks(x: Array, chunk: int, devices: int) -> Array:
  """`[total, ...] -> [chunks, chunk, ...]`; a chunk takes an equal share of every device's rows, so no row moves."""
  parts = x.reshape((devices, len(x) // chunk, chunk // devices, *x.shape[1:])).swapaxes(0, 1)
  return parts.reshape((len(x) // chunk, chunk, *x.shape[1:]))


def _merge_chunks(x: Array, devices: int) -> Array:
  """`[chunks, chunk, ...] -> [total, ...]`, the inverse of `_split_chunks`."""
  count, chunk, *rest = x.shape
  return x.reshape((count, devices, chunk // devices, *rest)).swapaxes(0, 1).reshape((count * chunk, *rest))


def flatten() -> Network:
  """Flattens inputs: a Network without params from `[n, ...]` to `[n, d]`."""

  def apply(params, state, inputs, *, train, key=None):
    values = values_of(inputs)
    return values.reshape(values.shape[0], -1), state

  return Network(lambda key, inputs: ({}, {}), apply)
