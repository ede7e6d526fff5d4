"""A network with pretrained params, with inputs prepared, frozen, or in chunks of rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.compose.combinators import check_networks
from metajax.mesh import device_count
from metajax.types import Array, Network, Params, State


def with_pretrained_params(network: Network, params: Params, state: State | None = None) -> Network:
  """The same network, which starts at given params (and state), such as those of another learner's encoder.

  So fine-tuning is a learner as any other: `supervised(with_pretrained_params(encoder, *pretrained))`. Where `state`
  is None, the network's own start is taken.

  Raises:
    TypeError: if it is no Network.
    ValueError: at init, if the network has params or state of other shapes on these inputs.
  """
  check_networks(network=network)

  def init(key, *inputs):
    expected = jax.eval_shape(network.init, key, *inputs)
    own = state if state is not None else network.init(key, *inputs)[1]
    for name, wanted, given in zip(("params", "state"), expected, (params, own), strict=True):
      if jax.tree.structure(wanted) != jax.tree.structure(given) or _shapes(wanted) != _shapes(given):
        raise ValueError(f"expected {name} as the network's own, {_shapes(wanted)}, got {_shapes(given)}")
    return jax.tree.map(jnp.array, (params, own))  # copies: a training may be given the buffers

  return Network(init, network.apply)


def _shapes(tree):
  return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)


def with_preprocessing(network: Network, prepare: Callable[[Any], Any]) -> Network:
  """The same network on inputs that are prepared first, each row on its own: `network(prepare(x))`.

  Args:
    network: of what `prepare` gives.
    prepare: of one input, such as `lambda x: augment.image.centered()(None, x)`.

  Raises:
    TypeError: if one is no Network, or the other no function.
  """
  check_networks(network=network)
  checks.function("prepare", prepare, "input -> input")
  each = jax.vmap(prepare)

  def apply(params, state, inputs, *, train, key=None):
    return network.apply(params, state, each(inputs), train=train, key=key)

  return Network(lambda key, inputs: network.init(key, each(inputs)), apply)


def frozen(network: Network) -> Network:
  """The same network, which no longer learns: it is as in testing, its state stays, and no gradient reaches its params.

  Activations are not kept for a backward pass. `optax.selective_transform` keeps an optimizer's weight decay off
  the params too.

  Raises:
    TypeError: if it is no Network.
  """
  check_networks(network=network)

  def apply(params, state, *inputs, train, key=None):
    outputs, _ = network.apply(lax.stop_gradient(params), state, *inputs, train=False)
    return lax.stop_gradient(outputs), state

  return Network(network.init, apply)


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
    TypeError: if it is no Network.
    ValueError: if `rows` is no whole number of at least 1; at init, if the network keeps state: statistics of a chunk
      are not those of the batch; when applied, if the batch does not divide by `rows`, or a chunk by the devices.
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
      raise ValueError(f"expected a batch that divides into chunks of {rows} rows, got {total} rows")
    if chunk % devices:
      raise ValueError(f"expected chunks that divide by the {devices} devices of the mesh, got chunks of {chunk} rows")

    @jax.checkpoint
    def one(params, inputs, keys):
      if keys is None:
        return network.apply(params, state, *inputs, train=train)[0]

      def alone(key, *row):
        return network.apply(params, state, *(x[None] for x in row), train=train, key=key)[0][0]

      return jax.vmap(alone)(keys, *inputs)

    # A chunk takes its share of each device's rows: none moves.
    def split(x):
      return x.reshape((devices, total // chunk, chunk // devices, *x.shape[1:])).swapaxes(0, 1)

    def chunks(x):
      return split(x).reshape((total // chunk, chunk, *x.shape[1:]))

    def whole(x):
      return x.reshape((total // chunk, devices, chunk // devices, *x.shape[2:])).swapaxes(0, 1)

    keys = None if key is None else jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(total))
    outputs = lax.map(lambda chunk: one(params, *chunk), jax.tree.map(chunks, (inputs, keys)))
    return jax.tree.map(lambda x: whole(x).reshape((total, *x.shape[2:])), outputs), state

  return Network(init, apply)


def flatten() -> Network:
  """`[n, ...] -> [n, d]`."""

  def apply(params, state, inputs: Array, *, train, key=None):
    return inputs.reshape(len(inputs), -1), state

  return Network(lambda key, inputs: ({}, {}), apply)
