"""Equinox modules as `Network`s."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from metajax.networks._flags import call_with, flags_of, optional, parameters_of
from metajax.networks._padding import unpad
from metajax.tree import is_floating, is_key, leading_axis
from metajax.types import Network


def from_equinox(make: Callable[..., Any], *, axis_name: str = "batch") -> Network:
  """Makes a `Network` from a function that makes an Equinox module, which is mapped over the batch.

  Params are the module's floating arrays. Its other arrays ("constants") and the values of its `eqx.nn.State`
  ("statistics") are the state, returned as the module leaves it. All are dictionaries named as the module's fields.

  Every layer's `inference` is `not train`; without a key that of `eqx.nn.Dropout` is true. In training
  `eqx.nn.BatchNorm` normalizes by the batch with `mode="batch"`, and by a moving average with `mode="ema"`. Equinox
  is optional: `pip install equinox` (tested with 0.13.8).

  Args:
    make: Function or class with one argument or the keyword `key`; it returns an `eqx.Module`, or the module and its
      state as `eqx.nn.make_with_state` does. The module's `__call__` takes the inputs of one example and, if it has
      such parameters, `state`, `key` (one of each row, or None) and the flags of `from_linen`. A module with a state
      returns its outputs and the state.
    axis_name: Name of the batch's axis, which `eqx.nn.BatchNorm` was given.

  Returns:
    A Network from batches of the module's inputs to batches of its outputs.

  Raises:
    ModuleNotFoundError: if Equinox is not installed.
    TypeError: if `make` is or makes no `eqx.Module`, or the module's `__call__` has another switch.
    ValueError: if a batch norm has another axis name.
  """
  eqx = optional("equinox", "equinox", "from_equinox")
  template = eqx.filter_eval_shape(lambda key: _made(eqx, make, key), jax.random.key(0))
  _check_axis(eqx, template[0], axis_name)
  taken = parameters_of(type(template[0]).__call__)
  # What is None by default is for those who know better than the layers' `inference`.
  given = {name: p for name, p in taken.items() if name not in ("key", "state") and p.default is not None}
  flags = flags_of(f"{type(template[0]).__name__}.__call__", given)
  leaves, treedef = jax.tree.flatten(template)
  names = _names(template)

  @jax.jit
  def variables(key):
    arrays = filter(eqx.is_array, jax.tree.leaves(_made(eqx, make, key)))
    # A counter of weak type would become another type, and another program, when it is averaged or saved.
    return _nested(names, [x if is_key(x) else jnp.asarray(x, x.dtype) for x in arrays])

  def init(key, *inputs):
    del inputs  # a module knows its sizes
    made = variables(key)
    return made.pop("params", {}), made

  def apply(params, state, *inputs, train, key=None):
    inputs, _ = unpad(type(template[0]).__name__, inputs, train and bool(state))
    flat = traverse_util.flatten_dict({"params": params, **state})
    arrays = iter([flat[name] for name in names])
    module, statistics = jax.tree.unflatten(treedef, [next(arrays) if _is_array(leaf) else leaf for leaf in leaves])
    module = eqx.nn.inference_mode(module, not train)
    if key is None:
      module = _without_dropout(eqx, module)
    told = flags(train, key is not None, bool(state))
    outputs, statistics = _mapped(module, statistics, inputs, told, "key" in taken, key, axis_name)
    after = _nested([name for name in names if name[0] == "statistics"], jax.tree.leaves(statistics))
    return outputs, {**state, **after}

  return Network(init, apply)


def _mapped(module, statistics, inputs, told, takes_key, key, axis_name):
  """The outputs of every row, and the statistics, which are those of all rows."""

  def of_one(statistics, key, *inputs):
    keywords = {**told, "key": key} if takes_key else told
    if not jax.tree.leaves(statistics):
      return module(*inputs, **keywords), statistics
    return module(*inputs, statistics, **keywords)

  keys = None if key is None else jax.random.split(key, leading_axis(inputs))
  in_axes = (None, None if key is None else 0, *[0] * len(inputs))
  return jax.vmap(of_one, in_axes, (0, None), axis_name=axis_name)(statistics, keys, *inputs)


def _made(eqx, make, key):
  """The module and its state, which is empty for a module without one."""
  given = f"a {type(make).__name__}" if isinstance(make, eqx.Module) or not callable(make) else None
  made = None if given else call_with(make, "key", key)
  pair = made if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], eqx.nn.State) else (made, None)
  if not (isinstance(pair[0], eqx.Module) and callable(pair[0])):
    given = given or f"one that returns a {type(pair[0]).__name__}"
    raise TypeError(f"expected a function that makes an eqx.Module of a key, got {given}")
  return eqx.nn.make_with_state(lambda: made)() if pair[1] is None else pair


def _check_axis(eqx, module, axis_name):
  norms = jax.tree.leaves(module, is_leaf=lambda layer: isinstance(layer, eqx.nn.BatchNorm))
  for layer in norms:
    if isinstance(layer, eqx.nn.BatchNorm) and layer.axis_name != axis_name:
      raise ValueError(f"expected every batch norm's axis_name to be {axis_name!r}, got {layer.axis_name!r}")


def _without_dropout(eqx, module):
  def is_dropout(layer):
    return isinstance(layer, eqx.nn.Dropout)

  def still(layer):
    return eqx.nn.inference_mode(layer) if is_dropout(layer) else layer

  return jax.tree.map(still, module, is_leaf=is_dropout)


def _is_array(leaf):
  return isinstance(leaf, jax.ShapeDtypeStruct)


def _names(template):
  """The path of each array of (module, state), which begins with "params", "constants" or "statistics"."""
  names = []
  for (part, *path), leaf in jax.tree_util.tree_leaves_with_path(template):
    if _is_array(leaf):
      kind = "statistics" if part.idx else "params" if is_floating(leaf) else "constants"
      names.append((kind, *(jax.tree_util.keystr((step,), simple=True) for step in path)))
  return names


def _nested(names, arrays):
  return traverse_util.unflatten_dict(dict(zip(names, arrays, strict=True)))
