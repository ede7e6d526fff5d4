"""Where arrays lie: the one rule that says to which axis of the mesh an array's axis goes."""

import functools
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from metajax.types import Params

DATA, FSDP, MODEL = "data", "fsdp", "model"
GATHERED = "gathered"  # name of gathered parameters for `jax.checkpoint`
# The axis of a transformer's parameters that holds heads or hidden units, by the end of their path.
HEADS_OR_HIDDEN = {
  **{(name, "kernel"): 1 for name in ("query", "key", "value", "hidden")},
  **{(name, "bias"): 0 for name in ("query", "key", "value", "hidden")},
  **{(name, "kernel"): 0 for name in ("out", "outputs")},
}
LAYER = re.compile(r"layer_\d+")  # of a transformer, which gathers its parameters itself


def row_axes() -> str | tuple[str, str]:
  """Returns the axes of the mesh that the rows of a batch are sharded over."""
  return (DATA, FSDP) if FSDP in jax.sharding.get_abstract_mesh().axis_names else DATA


def device_count() -> int:
  """Returns the number of devices that a batch is sharded over: 1 without a mesh, and inside a user's `shard_map`.

  Raises:
    ValueError: if the current mesh has several devices and no Auto axis "data".
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or mesh.manual_axes:
    return 1
  types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
  if types.get(DATA) != AxisType.Auto:
    raise ValueError(f"expected a mesh with an Auto axis {DATA!r}, such as metajax.make_mesh(), got {types}")
  return mesh.shape[DATA] * mesh.shape.get(FSDP, 1)


def sharded_axis(shape: Sequence[int], path: Sequence[Any] = ()) -> int | None:
  """Returns the axis along which an array of parameters or of optimizer state is sharded over "fsdp", or None.

  It is the longest axis that is divisible by the number of devices; of equal ones, the last. An axis of heads or hidden
  units is left to "model".

  Args:
    shape: The array's shape.
    path: Its path in the tree of parameters, keys of `jax.tree_util`.
  """
  count, taken = _size(FSDP), _parallel_axis(shape, path)
  if count == 1:
    return None
  divided = [axis for axis, size in enumerate(shape) if size and size % count == 0 and axis != taken]
  return max(divided, key=lambda axis: (shape[axis], axis), default=None)


def parameter_spec(shape: Sequence[int], path: Sequence[Any] = ()) -> P:
  """Returns the PartitionSpec of an array of parameters or of optimizer state as it is stored."""
  return _spec({sharded_axis(shape, path): FSDP, _parallel_axis(shape, path): MODEL})


def shard_parameters(tree: Params) -> Params:
  """Places parameters or optimizer state on the mesh: replicated, or sharded as `make_mesh` says."""
  if jax.sharding.get_abstract_mesh().empty:
    return jax.tree.map(jnp.asarray, tree)

  def put(path, x):
    return jax.device_put(x, NamedSharding(jax.sharding.get_mesh(), parameter_spec(jnp.shape(x), path)))

  return jax.tree_util.tree_map_with_path(put, tree)


def keep_sharded(tree: Params) -> Params:
  """Constrains traced parameters to the sharding of `shard_parameters`. A no-op without `fsdp` and `model`."""

  def keep(path, x):
    spec = parameter_spec(jnp.shape(x), path)
    return _constrained(x, spec) if spec else x

  return jax.tree_util.tree_map_with_path(keep, tree)


def scatter_gradient(tree: Params) -> Params:
  """Constrains the traced gradient of gathered parameters to their sharding: it is reduce-scattered.

  That of a convolution is summed over devices first: XLA would compute each device's part of it from the activations of
  all devices, which it gathers. The patch embedding of a transformer is rather a product with a matrix. A no-op without
  `fsdp` and `model`.
  """

  def summed(path, x):
    convolved = jnp.ndim(x) > 3 and "patches" not in _names(path)
    return _constrained(x, _used(x, path)) if convolved and parameter_spec(jnp.shape(x), path) else x

  return keep_sharded(jax.tree_util.tree_map_with_path(summed, tree))


def gather_params(tree: Params) -> Params:
  """All-gathers traced sharded parameters for the time that they are used. A no-op without `fsdp`.

  The layers of transformers are left out: they gather theirs one by one, with `gather_layer`.
  """

  def gather(path, x):
    return x if _of_layer(path) or sharded_axis(jnp.shape(x), path) is None else _constrained(x, _used(x, path))

  return jax.tree_util.tree_map_with_path(gather, tree)


def gather_layer(tree: Params) -> Params:
  """All-gathers the parameters of one layer for the time that they are used; their gradients are reduce-scattered.

  Within `jax.checkpoint` they have the name GATHERED, so that a policy can have them gathered again rather than kept. A
  no-op without `fsdp`; it has no forward-mode derivative with it.
  """

  def gather(path, x):
    if not shards_layers() or sharded_axis(jnp.shape(x), path) is None:
      return x
    return checkpoint_name(_gathered(x, parameter_spec(x.shape, path), _used(x, path)), GATHERED)

  return jax.tree_util.tree_map_with_path(gather, tree)


def shards_layers() -> bool:
  """Returns whether `gather_layer` does anything."""
  return device_count() > 1 and _size(FSDP) > 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered(x, stored, used):
  return _constrained(x, used)


def _gathered_forward(x, stored, used):
  return _constrained(x, used), None


def _gathered_backward(stored, used, _, gradient):
  # Sharded here, not after a scan, which would hold the whole gradients of all layers.
  return (_constrained(gradient, stored),)


_gathered.defvjp(_gathered_forward, _gathered_backward)


def _used(x, path) -> P:
  """The PartitionSpec of a parameter while it is used: gathered over "fsdp", still sharded over "model"."""
  return _spec({_parallel_axis(jnp.shape(x), path): MODEL})


def _parallel_axis(shape, path) -> int | None:
  """The axis of a transformer's parameter that "model" shards, or None."""
  count, axis = _size(MODEL), HEADS_OR_HIDDEN.get(tuple(_names(path)[-2:]))
  return axis if count > 1 and axis is not None and axis < len(shape) and shape[axis] % count == 0 else None


def _size(axis: str) -> int:
  mesh = jax.sharding.get_abstract_mesh()
  return 1 if mesh.empty or mesh.manual_axes else mesh.shape.get(axis, 1)


def _of_layer(path) -> bool:
  return any(LAYER.fullmatch(name) for name in _names(path))


def _names(path) -> list[str]:
  return [str(getattr(key, "key", getattr(key, "name", ""))) for key in path]


def _spec(axes) -> P:
  """The PartitionSpec of `{axis of the array, or None: axis of the mesh}`."""
  known = {axis: name for axis, name in axes.items() if axis is not None}
  return P(*[known.get(axis) for axis in range(max(known, default=-1) + 1)])


def _constrained(x, spec):
  return lax.with_sharding_constraint(x, NamedSharding(jax.sharding.get_abstract_mesh(), spec))
