"""Maps and means over tasks, each device its own."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import jaxpr_as_fun
from jax.sharding import PartitionSpec as P

from metajax import checks
from metajax.mesh.devices import DATA, check_divides, device_count, is_key, leading, parameter_spec, sharded_axis


def map_tasks(fn: Callable, at_once: int | None = None) -> Callable:
  """`mapped(shared, tasks)` stacks `fn(shared, task)` over the leading `[tasks]` axis, each device its own tasks.

  Args:
    fn: `(shared, task) -> outputs`, any pytrees.
    at_once: how many tasks run as one vectorised group, one group after the other; see `tasks_at_once`.

  Raises:
    ValueError: when called with a number of tasks that does not divide by the devices.
  """

  def local(shared, tasks):
    group = _group(tasks, at_once)
    size = None if group == 1 else group
    return lax.map(functools.partial(fn, shared), tasks, batch_size=size)

  def mapped(shared, tasks):
    check_divides(leading(tasks))
    if device_count() == 1:
      return local(shared, tasks)
    return jax.shard_map(local, in_specs=(P(), P(DATA)), out_specs=P(DATA), check_vma=False)(shared, tasks)

  return mapped


def mean_over_tasks(task: Callable, at_once: int | None = None) -> Callable:
  """`mean(params, rest, tasks) -> (loss, aux)`, the weighted mean of a loss over tasks, cheap to differentiate.

  With `loss_t, aux_t, weight_t = task(params, rest, task_t)`:

      loss = sum_t weight_t loss_t / sum_t weight_t

  and likewise every floating leaf of `aux`; integer and boolean leaves take the maximum, and so do typed keys, word by
  word: one that all tasks have alike stays what it is. The gradient with respect
  to `params` is taken inside the map, group by group, so memory does not grow with the number of tasks, and over the
  mesh it costs one all-reduce. It is exact in forward and in reverse mode and can be differentiated again. Only
  `params` is differentiated: `aux` has no tangent. Inside someone's `shard_map`, which needs `check_vma=False`, it is
  the mean over that device's tasks.

  Args:
    task: `(params, rest, task) -> (scalar loss, aux, scalar weight)`, which closes over no traced value. Weight 0 is a
      padded task, whatever its loss; one that is negative or NaN makes the mean NaN.
    at_once: how many tasks run as one vectorised group; see `tasks_at_once`.

  Raises:
    ValueError: when called with a number of tasks that does not divide by the devices.
    TypeError: when `rest` or `tasks` carries a derivative, which would otherwise be lost in silence.
  """

  def weighted(kinds, params, rest, one):
    """Of one task; notes of which type each leaf is, and what kind of key, in `kinds`."""
    loss, aux, weight = task(params, rest, one)
    leaves, structure = jax.tree.flatten((loss, aux))
    kinds[:] = structure, [(jnp.result_type(x), jax.random.key_impl(x) if is_key(x) else None) for x in leaves]
    if jnp.shape(loss) != ():
      raise ValueError(f"expected a task's loss to be a scalar, got an array of shape {jnp.shape(loss)}")
    weight = lax.stop_gradient(jnp.asarray(weight, loss.dtype))
    weight = jnp.where(weight >= 0, weight, jnp.nan)  # not passed over as if it were padding
    weigh = lambda x: jnp.where(weight > 0, weight.astype(x.dtype) * x, 0)
    aux = jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, aux)
    aux = jax.tree.map(lambda x: weigh(jnp.asarray(x)) if _floats(x) else x, aux)
    return weigh(loss), (aux, weight)

  def totals(differentiate, kinds, params, rest, tasks):
    """Sums over the tasks at hand of (weighted loss, (weighted aux, weight)) and of the gradient (or None)."""
    group, of_one = _group(tasks, at_once), functools.partial(weighted, kinds)

    def one(one):
      if not differentiate:
        return of_one(params, rest, one), None
      (loss, (aux, weight)), gradient = jax.value_and_grad(of_one, has_aux=True)(params, rest, one)
      # Padding may hold anything, and zero times NaN is NaN.
      return (loss, (aux, weight)), jax.tree.map(lambda x: jnp.where(weight > 0, x, 0), gradient)

    # A group is sliced where it is used: a reshape to [groups, group, ...] would hold a copy of the whole batch.
    def many(i):
      if group == 1:
        return jax.tree.map(_widen, one(jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), tasks)))
      some = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, i * group, group), tasks)
      return jax.tree.map(lambda x: _widen(x).sum(0) if _floats(x) else x.max(0), jax.vmap(one)(some))

    groups = leading(tasks) // group
    if groups == 1:
      return many(0)  # a loop of one would cost: XLA's convolutions on a CPU are slow inside of loops
    add = lambda a, b: a + b if _floats(a) else jnp.maximum(a, b)
    numbers = jnp.arange(groups)
    # Differentiated once, for the shapes of the sums and for the loop.
    closed, shapes = jax.make_jaxpr(many, return_shape=True)(jax.ShapeDtypeStruct((), numbers.dtype))
    traced = lambda i: jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(closed)(i))
    body = lambda sums, i: (jax.tree.map(add, sums, traced(i)), None)
    return lax.scan(body, jax.tree.map(_neutral, shapes), numbers)[0]

  def compute(differentiate, params, rest, tasks):
    kinds = []
    over_tasks = functools.partial(totals, differentiate, kinds)
    if device_count() > 1:
      axes = [sharded_axis(jnp.shape(x)) for x in jax.tree.leaves(params)] if differentiate else []
      spread = jax.tree.map(lambda x: parameter_spec(jnp.shape(x)), params) if differentiate else P()
      island = lambda *arguments: _all_reduce(totals(differentiate, kinds, *arguments), axes)
      over_tasks = jax.shard_map(island, in_specs=(P(), P(), P(DATA)), out_specs=(P(), spread), check_vma=False)
    (loss, (aux, weight)), gradient = over_tasks(params, rest, tasks)
    weight = jnp.where(weight == 0, 1, weight)
    divide = lambda x, dtype: (x / weight.astype(x.dtype)).astype(dtype) if _floats(x) else x
    if differentiate:
      gradient = jax.tree.map(lambda x, like: divide(x, like.dtype), gradient, params)
    structure, of_leaves = kinds
    found = [
      divide(x, dtype) if impl is None else jax.random.wrap_key_data(x, impl=impl)
      for x, (dtype, impl) in zip(jax.tree.leaves((loss, aux)), of_leaves, strict=True)
    ]
    return structure.unflatten(found), gradient

  @jax.custom_jvp
  def mean(params, rest, tasks):
    return compute(False, params, rest, tasks)[0]

  # A `custom_vjp` would lose forward mode, and with it cheap Hessian-vector products.
  @functools.partial(mean.defjvp, symbolic_zeros=True)
  def _(primals, tangents):
    for name, tangent in (("rest", tangents[1]), ("tasks", tangents[2])):
      _check_no_tangent(name, tangent)
    out, gradient = compute(True, *primals)
    slope = jnp.zeros((), out[0].dtype)
    for g, t in zip(jax.tree.leaves(gradient), jax.tree.leaves(tangents[0], is_leaf=_is_zero), strict=True):
      if not _is_zero(t):
        slope += jnp.vdot(g, t).astype(slope.dtype)
    return out, (slope, jax.tree.map(_zero_tangent, out[1]))

  def checked(params, rest, tasks):
    check_divides(leading(tasks))
    return mean(params, rest, tasks)

  return checked


def tasks_at_once(tasks: int, at_once: int | None = None) -> int:
  """The largest divisor of `tasks` that is at most `at_once`: how many tasks run as one vectorised group.

  The default is 1 on a CPU, where each task alone fills the cores and vectorising only costs memory, and 16 on an
  accelerator.

  Raises:
    ValueError: if `at_once` is no whole number of at least 1.
  """
  limit = (1 if jax.default_backend() == "cpu" else 16) if at_once is None else at_once
  checks.count("at_once", limit)
  return next(size for size in range(min(limit, tasks), 0, -1) if tasks % size == 0)


def _group(tasks, at_once):
  return tasks_at_once(leading(tasks), at_once)


def _check_no_tangent(name, tangents):
  for tangent in jax.tree.leaves(tangents, is_leaf=_is_zero):
    if not _is_zero(tangent) and jnp.result_type(tangent) != jax.dtypes.float0:
      raise TypeError(f"mean_over_tasks differentiates params only, but {name} depends on them: move it into params")


def _floats(x) -> bool:
  return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _widen(x):
  """Sums of many small floats are kept in at least 32 bits."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32)) if _floats(x) else x


def _neutral(shape):
  if _floats(shape):
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
  sums = iter(lax.psum([x for x, axis in zip(leaves, scattered, strict=True) if _floats(x) and axis is None], DATA))
  found = []
  for x, axis in zip(leaves, scattered, strict=True):
    if axis is not None:
      found.append(lax.psum_scatter(x, DATA, scatter_dimension=axis, tiled=True))
    else:
      found.append(next(sums) if _floats(x) else lax.pmax(x, DATA))
  return structure.unflatten(found)


def _is_zero(x) -> bool:
  return isinstance(x, SymbolicZero)


def _zero_tangent(x):
  return jnp.zeros_like(x) if _floats(x) else np.zeros(jnp.shape(x), jax.dtypes.float0)
