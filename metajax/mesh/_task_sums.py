"""Weighted sums over tasks of a loss, its aux and its gradient: group by group, and over the devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jax.sharding import PartitionSpec as P

from metajax import checks
from metajax.mesh.devices import DATA, device_count, parameter_spec, sharded_axis
from metajax.tree import is_floating, is_key, leading_axis, wide
from metajax.types import Batch, Params, Scalar


def tasks_per_chunk(tasks: int, at_once: int | None = None) -> int:
  """The largest divisor of `tasks` that is at most `at_once`: how many tasks run as one vectorised group.

  The default is 1 on a CPU, where each task alone fills the cores and vectorising only costs memory, and 16 on an
  accelerator.

  Raises:
    ValueError: if `at_once` is no whole number of at least 1.
  """
  limit = (1 if jax.default_backend() == "cpu" else 16) if at_once is None else at_once
  checks.count("at_once", limit)
  return next(size for size in range(min(limit, tasks), 0, -1) if tasks % size == 0)


def group_of(tasks: Any, at_once: int | None) -> int:
  return tasks_per_chunk(leading_axis(tasks), at_once)


def mean_of_tasks(task: Callable, at_once: int | None, params: Params, rest: Any, tasks: Batch) -> tuple[Scalar, Any]:
  """The weighted means of the loss and the aux, as `mean_over_tasks` says."""
  kinds = []

  def over_tasks(params, rest, tasks):
    return _sum(functools.partial(_weighted, task, kinds, params, rest), tasks, at_once)

  def island(*arguments):
    return _all_reduce((over_tasks(*arguments), None), [])[0]

  several = device_count() > 1
  mapped = (
    jax.shard_map(island, in_specs=(P(), P(), P(DATA)), out_specs=P(), check_vma=False) if several else over_tasks
  )
  loss, (aux, weight) = mapped(params, rest, tasks)
  return _means(kinds, loss, aux, jnp.where(weight == 0, 1, weight))


def mean_and_gradient(
  task: Callable, at_once: int | None, params: Params, rest: Any, tasks: Batch
) -> tuple[tuple[Scalar, Any], Params]:
  """`mean_of_tasks`, and its gradient with respect to `params`."""
  kinds = []

  def of_one(params, rest):
    return functools.partial(_differentiated, task, kinds, params, rest)

  def over_tasks(params, rest, tasks):
    return _sum(of_one(params, rest), tasks, at_once)

  axes = [sharded_axis(jnp.shape(x)) for x in jax.tree.leaves(params)]  # the mesh is not seen from within the island

  def island(*arguments):
    return _all_reduce(over_tasks(*arguments), axes)

  mapped = over_tasks
  if device_count() > 1:
    spread = jax.tree.map(lambda x: parameter_spec(jnp.shape(x)), params)
    mapped = jax.shard_map(island, in_specs=(P(), P(), P(DATA)), out_specs=(P(), spread), check_vma=False)
  (loss, (aux, weight)), gradient = mapped(params, rest, tasks)
  weight = jnp.where(weight == 0, 1, weight)
  gradient = jax.tree.map(lambda x, like: _divided(x, weight, like.dtype), gradient, params)
  return _means(kinds, loss, aux, weight), gradient


def _weighted(task, kinds, params, rest, one):
  """(weighted loss, (weighted aux, weight)) of one task; `kinds` takes the type of each leaf, or its kind of key."""
  loss, aux, weight = task(params, rest, one)
  leaves, structure = jax.tree.flatten((loss, aux))
  kinds[:] = structure, [(jnp.result_type(x), jax.random.key_impl(x) if is_key(x) else None) for x in leaves]
  if jnp.shape(loss) != ():
    raise ValueError(f"expected a task's loss to be a scalar, got an array of shape {jnp.shape(loss)}")
  weight = lax.stop_gradient(jnp.asarray(weight, loss.dtype))
  weight = jnp.where(weight >= 0, weight, jnp.nan)  # not passed over as if it were padding

  def weigh(x):
    return jnp.where(weight > 0, weight.astype(x.dtype) * x, 0)

  aux = jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, aux)
  aux = jax.tree.map(lambda x: weigh(jnp.asarray(x)) if is_floating(x) else x, aux)
  return weigh(loss), (aux, weight)


def _differentiated(task, kinds, params, rest, one):
  """`_weighted`, and the gradient with respect to `params`."""
  of_one = functools.partial(_weighted, task, kinds)
  (loss, (aux, weight)), gradient = jax.value_and_grad(of_one, has_aux=True)(params, rest, one)
  # Padding may hold anything, and zero times NaN is NaN.
  return (loss, (aux, weight)), jax.tree.map(lambda x: jnp.where(weight > 0, x, 0), gradient)


def _sum(of_one: Callable, tasks, at_once):
  """The sums over the tasks at hand of what `of_one(task)` gives, of integers the largest."""
  group = group_of(tasks, at_once)

  # A group is sliced where it is used: a reshape to [groups, group, ...] would hold a copy of the whole batch.
  def of_group(i):
    if group == 1:
      one = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), tasks)
      return jax.tree.map(_widen, of_one(one))
    some = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, i * group, group), tasks)
    return jax.tree.map(lambda x: _widen(x).sum(0) if is_floating(x) else x.max(0), jax.vmap(of_one)(some))

  groups = leading_axis(tasks) // group
  if groups == 1:
    return of_group(0)  # a loop of one would cost: XLA's convolutions on a CPU are slow inside of loops

  def add(a, b):
    return a + b if is_floating(a) else jnp.maximum(a, b)

  numbers = jnp.arange(groups)
  # Differentiated once, for the shapes of the sums and for the loop.
  closed, shapes = jax.make_jaxpr(of_group, return_shape=True)(jax.ShapeDtypeStruct((), numbers.dtype))

  def traced(i):
    return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(closed)(i))

  def body(sums, i):
    return (jax.tree.map(add, sums, traced(i)), None)

  return lax.scan(body, jax.tree.map(_neutral, shapes), numbers)[0]


def _means(kinds, loss, aux, weight):
  """The means of the sums, each leaf of the type that it had for one task."""
  structure, of_leaves = kinds
  found = [
    _divided(x, weight, dtype) if impl is None else jax.random.wrap_key_data(x, impl=impl)
    for x, (dtype, impl) in zip(jax.tree.leaves((loss, aux)), of_leaves, strict=True)
  ]
  return structure.unflatten(found)


def _divided(x, weight, dtype):
  return (x / weight.astype(x.dtype)).astype(dtype) if is_floating(x) else x


def _widen(x):
  """Sums of many small floats are kept in at least 32 bits."""
  return wide(x) if is_floating(x) else x


def _neutral(shape):
  if is_floating(shape):
    return jnp.zeros(shape.shape, shape.dtype)
  least = False if shape.dtype == bool else jnp.iinfo(shape.dtype).min
  return jnp.full(shape.shape, least, shape.dtype)


def _all_reduce(totals, axes):
  """Sums over the devices (of integers the largest); of a gradient that is sharded along an axis each its own part.

  Args:
    totals: of a device: (all else, the gradient or None).
    axes: of each leaf of the gradient, the axis that it is sharded along, or None.
  """
  aux, gradient = totals
  leaves, structure = jax.tree.flatten((aux, gradient))
  scattered = [None] * len(jax.tree.leaves(aux)) + axes
  sums = iter(lax.psum([x for x, axis in zip(leaves, scattered, strict=True) if is_floating(x) and axis is None], DATA))
  found = []
  for x, axis in zip(leaves, scattered, strict=True):
    if axis is not None:
      found.append(lax.psum_scatter(x, DATA, scatter_dimension=axis, tiled=True))
    else:
      found.append(next(sums) if is_floating(x) else lax.pmax(x, DATA))
  return structure.unflatten(found)
