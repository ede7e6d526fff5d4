"""NNX modules as `Network`s."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from metajax.networks._flags import call_with, flags_of, parameters_of
from metajax.networks._padding import unpad
from metajax.types import Network


def from_nnx(make: Callable[..., nnx.Module]) -> Network:
  """Makes a `Network` from a function that makes an NNX module.

  Params are the values of every `nnx.Param`, shared ones once. The state is every other variable (`nnx.BatchStat`,
  `nnx.Cache`), returned as the module leaves it. Both are nested dictionaries named as the module's attributes.

  Random streams are not kept in the state: with a key each stream starts anew from it, so that the same key gives the
  same noise; without a key `module.train()` leaves everything deterministic but batch norm, and a stream that a module
  reads in spite of it is constant.

  Args:
    make: Function or class with one argument or the keyword `rngs`, an `nnx.Rngs`; it returns the module. The module's
      `__call__` takes the inputs, and any of the flags of `from_linen`; `rngs` gets an `nnx.Rngs` of the key, or None.

  Returns:
    A Network with the module's inputs and outputs; `init` gives the params of `make(nnx.Rngs(key))`.

  Raises:
    TypeError: if `make` is a module or makes none, or the module's `__call__` has another switch.

  Example:
    >>> import functools, jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from metajax.networks import from_nnx
    >>> network, inputs = from_nnx(functools.partial(nnx.Linear, 3, 5)), jnp.zeros([4, 3])
    >>> params, state = network.init(jax.random.key(0), inputs)
    >>> network.apply(params, state, inputs, train=False)[0].shape
    (4, 5)
  """
  abstract = nnx.eval_shape(lambda key: _made(make, key), jax.random.key(0))
  graph, abstract_params, abstract_keys, abstract_rest = nnx.split(abstract, nnx.Param, nnx.RngState, ...)
  taken = parameters_of(type(abstract).__call__)
  takes_rngs = taken.pop("rngs", None) is not None
  flags = flags_of(f"{type(abstract).__name__}.__call__", taken)

  @jax.jit
  def variables(key):
    _, params, _, rest = nnx.split(_made(make, key), nnx.Param, nnx.RngState, ...)
    return _as_dict(params), _as_dict(rest)

  def init(key, *inputs):
    del inputs  # a module knows its sizes
    return variables(key)

  def apply(params, state, *inputs, train, key=None):
    inputs, _ = unpad(type(abstract).__name__, inputs, train and bool(state))
    parts = _filled(abstract_params, params), _seeded(abstract_keys, key), _filled(abstract_rest, state)
    module = nnx.merge(graph, *parts)
    (module.train if train else module.eval)()
    if key is None:
      module.set_attributes(deterministic=True, raise_if_not_found=False)
    handed = {"rngs": None if key is None else nnx.Rngs(jax.random.fold_in(key, 1))} if takes_rngs else {}
    outputs = module(*inputs, **flags(train, key is not None, bool(state)), **handed)
    rest = dict(nnx.to_flat_state(nnx.split(module, nnx.Param, nnx.RngState, ...)[-1]))
    # Variables that the call alone made, such as sown ones, are left out: the state keeps its structure.
    return outputs, _as_dict(nnx.from_flat_state({path: rest[path] for path, _ in nnx.to_flat_state(abstract_rest)}))

  return Network(init, apply)


def _made(make, key):
  given = f"a {type(make).__name__}" if isinstance(make, nnx.Module) or not callable(make) else None
  module = None if given else call_with(make, "rngs", nnx.Rngs(key))
  if not isinstance(module, nnx.Module):
    given = given or f"one that returns a {type(module).__name__}"
    raise TypeError(f"expected a function that makes an nnx.Module of an nnx.Rngs, got {given}")
  return module


def _value(variable):
  return variable.get_value() if isinstance(variable, nnx.Variable) else variable


def _as_dict(state):
  flat = {tuple(map(str, path)): _value(variable) for path, variable in nnx.to_flat_state(state)}
  return traverse_util.unflatten_dict(flat)


def _filled(abstract, values):
  flat = traverse_util.flatten_dict(values)
  filled = {}
  for path, variable in nnx.to_flat_state(abstract):
    value = flat[tuple(map(str, path))]
    filled[path] = variable.replace(value) if isinstance(variable, nnx.Variable) else value
  return nnx.from_flat_state(filled)


def _seeded(abstract, key):
  """Random streams at their start, each with a key of its own."""
  key, seeded = jax.random.fold_in(jax.random.key(0) if key is None else key, 0), {}
  for place, (path, variable) in enumerate(nnx.to_flat_state(abstract)):
    like = _value(variable)
    if isinstance(variable, nnx.RngKey):
      value = jax.random.fold_in(key, place)
      value = jax.random.split(value, like.shape) if like.shape else value
    else:
      value = jnp.zeros(like.shape, like.dtype)
    seeded[path] = variable.replace(value)
  return nnx.from_flat_state(seeded)
