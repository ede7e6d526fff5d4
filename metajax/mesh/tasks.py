"""Maps and means over tasks, with the tasks sharded over devices."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from metajax.mesh._task_sums import divided, group_of, mean_of, sums_of_tasks, without_gradient
from metajax.mesh.devices import check_divides
from metajax.mesh.placement import device_count, row_axes
from metajax.tree import is_floating, is_symbolic_zero, leading_axis


def map_tasks(fn: Callable, chunk_size: int | None = None) -> Callable:
  """Maps a function over tasks; under a mesh each device computes its share of the tasks.

  Args:
    fn: `(shared, task) -> outputs`, any pytrees.
    chunk_size: Number of tasks per vectorized group; groups run one after the other. See `tasks_per_chunk`.

  Returns:
    `mapped(shared, tasks)`, which stacks `fn(shared, task)` over the leading `[tasks]` axis.

  Raises:
    ValueError: when called, if the number of tasks is not divisible by the number of devices.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax.mesh import map_tasks
    >>> mapped = map_tasks(lambda shared, task: shared * task.sum())
    >>> mapped(2.0, jnp.ones([8, 3])).shape
    (8,)
  """

  def local(shared, tasks):
    group = group_of(tasks, chunk_size)
    size = None if group == 1 else group
    return lax.map(functools.partial(fn, shared), tasks, batch_size=size)

  def mapped(shared, tasks):
    check_divides(leading_axis(tasks))
    if device_count() == 1:
      return local(shared, tasks)
    rows = P(row_axes())
    return jax.shard_map(local, in_specs=(P(), rows), out_specs=rows, check_vma=False)(shared, tasks)

  return mapped


def mean_over_tasks(task: Callable, chunk_size: int | None = None) -> Callable:
  """Returns `mean(params, rest, tasks) -> (loss, aux)`, the weighted mean of a loss over tasks, cheap to differentiate.

  With `loss_t, (aux_t, weight_t) = task(params, rest, task_t)`:

      loss = sum_t weight_t loss_t / sum_t weight_t

  Floating leaves of `aux` are averaged the same way. Integer and boolean leaves take the maximum, and so do typed keys,
  word by word: a value that is equal in all tasks stays unchanged.

  The gradient with respect to `params` is computed inside the map, group by group, so memory does not grow with the
  number of tasks; over the mesh it costs one all-reduce. It is exact in forward and reverse mode and can be
  differentiated again. Only `params` is differentiated: `aux` has no tangent. Inside a user's `shard_map`, which needs
  `check_vma=False`, the mean is over that device's tasks.

  Args:
    task: `(params, rest, task) -> (scalar loss, (aux, scalar weight))`. It must not close over traced values. A task of
      weight 0 is padding, whatever its loss; a negative or NaN weight makes the mean NaN.
    chunk_size: Number of tasks per vectorized group; see `tasks_per_chunk`.

  Raises:
    ValueError: when called, if the number of tasks is not divisible by the number of devices.
    TypeError: when called, if `rest` or `tasks` carries a derivative, which would otherwise be lost silently.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.mesh import mean_over_tasks
    >>> mean = mean_over_tasks(lambda params, rest, task: (params * task, ({"task": task}, 1.0)))
    >>> (loss, aux), gradient = jax.value_and_grad(mean, has_aux=True)(2.0, None, jnp.arange(8.0))
    >>> float(loss), float(aux["task"]), float(gradient)
    (7.0, 3.5, 3.5)
  """

  @jax.custom_jvp
  def mean(params, rest, tasks):
    check_divides(leading_axis(tasks))
    kinds = []
    sums = sums_of_tasks(without_gradient(task), chunk_size, params, kinds, sharded=False)
    (loss, (aux, weight)), _ = sums(params, rest, tasks)
    return mean_of(kinds, loss, aux, weight)

  # `custom_vjp` would lose forward mode, and with it cheap Hessian-vector products.
  @functools.partial(mean.defjvp, symbolic_zeros=True)
  def mean_and_slope(primals, tangents):
    params, rest, tasks = primals
    check_divides(leading_axis(tasks))
    _check_no_tangent("rest", tangents[1])
    _check_no_tangent("tasks", tangents[2])
    kinds = []
    sums = sums_of_tasks(jax.value_and_grad(task, has_aux=True), chunk_size, params, kinds, sharded=True)
    (loss, (aux, weight)), gradient = sums(params, rest, tasks)
    gradient = jax.tree.map(lambda x, like: divided(x, weight, like.dtype), gradient, params)
    loss, aux = mean_of(kinds, loss, aux, weight)
    return (loss, aux), (_slope(gradient, tangents[0], loss.dtype), jax.tree.map(_zero_tangent, aux))

  return mean


def _check_no_tangent(name, tangents):
  for tangent in jax.tree.leaves(tangents, is_leaf=is_symbolic_zero):
    if not is_symbolic_zero(tangent) and jnp.result_type(tangent) != jax.dtypes.float0:
      raise TypeError(f"mean_over_tasks differentiates params only, but {name} depends on them: move it into params")


def _slope(gradient, tangents, dtype):
  """Returns the directional derivative, without the symbolic zeros."""
  slope = jnp.zeros((), dtype)
  for g, t in zip(jax.tree.leaves(gradient), jax.tree.leaves(tangents, is_leaf=is_symbolic_zero), strict=True):
    if not is_symbolic_zero(t):
      slope += jnp.vdot(g, t).astype(slope.dtype)
  return slope


def _zero_tangent(x):
  return jnp.zeros_like(x) if is_floating(x) else np.zeros(jnp.shape(x), jax.dtypes.float0)
