"""Weighted sums over tasks of a loss, its aux and its gradient: group by group, then over devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import PartitionSpec as P

from metajax import checks
from metajax.mesh.placement import DATA, FSDP, device_count, row_axes, sharded_axis
from metajax.platforms import platform
from metajax.tree import is_floating, is_key, leading_axis, wide
from metajax.types import Array, Batch, Params, Scalar


def tasks_per_chunk(tasks: int, chunk_size: int | None = None) -> int:
  """Returns the number of tasks per vectorized group: the largest divisor of `tasks` that is at most `chunk_size`.

  Args:
    tasks: Number of tasks.
    chunk_size: Upper limit. The default is 1 on a CPU, where a single task fills the cores and vectorizing only costs
      memory, and 16 on an accelerator.

  Raises:
    ValueError: if `chunk_size` is not an integer of at least 1.
  """
  limit = (1 if platform() == "cpu" else 16) if chunk_size is None else chunk_size
  checks.count("chunk_size", limit)
  return next(size for size in range(min(limit, tasks), 0, -1) if tasks % size == 0)


def group_of(tasks: Any, chunk_size: int | None) -> int:
  return tasks_per_chunk(leading_axis(tasks), chunk_size)


def without_gradient(task: Callable) -> Callable:
  """Adapts a task to `sums_of_tasks`, with an empty gradient."""

  def of_task(*arguments):
    return task(*arguments), ()

  return of_task


def sums_of_tasks(of_task: Callable, chunk_size: int | None, params: Params, kinds: list, sharded: bool) -> Callable:
  """Returns `sums(params, rest, tasks) -> ((loss, (aux, weight)), gradient)`, weighted, over all tasks and devices.

  Args:
    of_task: `(params, rest, task) -> ((loss, (aux, weight)), gradient)` of one task, unweighted.
    chunk_size: See `mean_over_tasks`.
    params: Parameters that the gradient is taken with respect to.
    kinds: A list that is filled during tracing with the leaf types that `mean_of` needs.
    sharded: Whether the gradient is sharded by `parameter_spec`, like the params.
  """
  if device_count() == 1:
    return functools.partial(sum_over_tasks, of_task, chunk_size, kinds, None)
  axes, spread = [], P()
  if sharded:  # computed here, because the mesh is not visible inside the shard_map
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    axes = [sharded_axis(jnp.shape(x), path) for path, x in leaves]
    spread = structure.unflatten([P() if axis is None else P(*[None] * axis, FSDP) for axis in axes])
  island = functools.partial(sum_over_tasks, of_task, chunk_size, kinds, (row_axes(), axes))
  return jax.shard_map(island, in_specs=(P(), P(), P(row_axes())), out_specs=(P(), spread), check_vma=False)


def sum_over_tasks(
  of_task: Callable, chunk_size: int | None, kinds: list, over: tuple | None, params: Params, rest: Any, tasks: Batch
) -> tuple:
  """Computes the weighted sums over local tasks, group by group, then over devices if `over` is given."""
  group = group_of(tasks, chunk_size)
  each = of_task if group == 1 else jax.vmap(of_task, in_axes=(None, None, 0))

  # Each group is sliced at its use: a reshape to [groups, group, ...] would copy the full batch.
  def of_group(i):
    if group == 1:
      some = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), tasks)
    else:
      some = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, i * group, group), tasks)
    return _weighted_sum(kinds, group, *each(params, rest, some))

  groups = leading_axis(tasks) // group
  index = jax.ShapeDtypeStruct((), jnp.arange(0).dtype)
  # Traced (and differentiated) once, for both the shapes of the sums and the loop.
  traced, shapes = jax.make_jaxpr(of_group, return_shape=True)(index)
  _check_closed_over(traced.consts, (params, rest, tasks))
  if groups == 1:  # no loop: XLA's convolutions on a CPU are slow inside loops
    sums = jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(traced)(0))
  else:
    sums = _over_groups(traced, shapes, groups)
  return sums if over is None else _all_reduce(sums, *over)


def _check_closed_over(constants: list, given: Any):
  """Raises for a value under differentiation that the task closes over: it would escape its trace."""
  known = {id(x) for x in jax.tree.leaves(given)}
  for x in constants:
    # A value that `jit` traces can be closed over.
    if isinstance(x, jax.core.Tracer) and id(x) not in known and type(x).__name__ != "DynamicJaxprTracer":
      raise TypeError(
        "expected a loss over tasks that is differentiated by its params alone, but it closes over a differentiated "
        f"value of shape {list(jnp.shape(x))}, such as a learned rate: make it part of params"
      )


def _weighted_sum(kinds: list, group: int, value: tuple, gradient: Params) -> tuple:
  """Sums floats over a group's tasks and takes the maximum of integers; records leaf types and key types in `kinds`."""
  loss, (aux, weight) = value
  leaves, structure = jax.tree.flatten((loss, aux))
  kinds[:] = structure, [(jnp.result_type(x), jax.random.key_impl(x) if is_key(x) else None) for x in leaves]
  shape = jnp.shape(loss)[int(group > 1) :]
  if shape != ():
    raise ValueError(f"expected a task's loss to be a scalar, got an array of shape {shape}")
  weight = lax.stop_gradient(jnp.asarray(weight, loss.dtype))
  weight = jnp.where(weight >= 0, weight, jnp.nan)  # a negative or NaN weight must not act as padding

  def total(x):
    x = jax.random.key_data(x) if is_key(x) else jnp.asarray(x)
    if not is_floating(x):
      return x if group == 1 else x.max(0)
    own = weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim))
    # Padding may hold NaN, and 0 * NaN is NaN. Sums of many small floats need at least 32 bits.
    weighted = wide(jnp.where(own > 0, own.astype(x.dtype) * x, 0))
    return weighted if group == 1 else weighted.sum(0)

  weights = wide(weight) if group == 1 else wide(weight).sum(0)
  return (total(loss), (jax.tree.map(total, aux), weights)), jax.tree.map(total, gradient)


def _over_groups(of_group: ClosedJaxpr, shapes: tuple, groups: int) -> tuple:
  """Accumulates `of_group(i)` over all groups."""

  def add(a, b):
    return a + b if is_floating(a) else jnp.maximum(a, b)

  def body(sums, i):
    found = jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(of_group)(i))
    return jax.tree.map(add, sums, found), None

  return lax.scan(body, jax.tree.map(_neutral, shapes), jnp.arange(groups))[0]


def mean_of(kinds: list, loss: Scalar, aux: Any, weight: Scalar) -> tuple[Scalar, Any]:
  """Returns the means of loss and aux from their sums; each leaf keeps its per-task type."""
  structure, of_leaves = kinds
  found = [
    divided(x, weight, dtype) if impl is None else jax.random.wrap_key_data(x, impl=impl)
    for x, (dtype, impl) in zip(jax.tree.leaves((loss, aux)), of_leaves, strict=True)
  ]
  return structure.unflatten(found)


def divided(x: Array, weight: Scalar, dtype: Any) -> Array:
  """Divides a sum by its weight; integers, and sums of weight 0, stay unchanged."""
  return (x / jnp.where(weight == 0, 1, weight).astype(x.dtype)).astype(dtype) if is_floating(x) else x


def _neutral(shape):
  if is_floating(shape):
    return jnp.zeros(shape.shape, shape.dtype)
  least = False if shape.dtype == bool else jnp.iinfo(shape.dtype).min
  return jnp.full(shape.shape, least, shape.dtype)


def _all_reduce(totals, rows, axes):
  """Sums floats over devices and takes the maximum of integers; a sharded gradient leaf is reduce-scattered.

  Args:
    totals: Per-device sums: `((loss, (aux, weight)), gradient)`.
    rows: Axes of the mesh that the tasks are sharded over.
    axes: Sharded axis per gradient leaf, or None.
  """
  aux, gradient = totals
  leaves, structure = jax.tree.flatten((aux, gradient))
  scattered = [None] * len(jax.tree.leaves(aux)) + axes
  sums = iter(lax.psum([x for x, axis in zip(leaves, scattered, strict=True) if is_floating(x) and axis is None], rows))
  found = []
  for x, axis in zip(leaves, scattered, strict=True):
    if axis is not None:
      part = lax.psum_scatter(x, FSDP, scatter_dimension=axis, tiled=True)
      found.append(lax.psum(part, DATA))
    else:
      found.append(next(sums) if is_floating(x) else lax.pmax(x, rows))
  return structure.unflatten(found)
