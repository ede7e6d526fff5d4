"""info_nce: which row of the other tower is a row's match."""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from metajax import mesh
from metajax.losses.tiles import add_exponentials, are_pairs, divide, logits_of, mean_of, no_sums, probabilities
from metajax.mesh import Rows


def dense(_, rows):
  first, second, weights, *_ = rows
  logits = logits_of(first, second, are_pairs(weights, weights))
  each = (logsumexp(logits, 1) + logsumexp(logits, 0)) / 2 - (first * second).sum(-1)
  return mean_of(weights, each)


def tiled(where: Rows, _, rows):
  first, second, weights, *_ = rows
  return _symmetric(where, first, second, weights)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _symmetric(where: Rows, first, second, weights):
  return _symmetric_pass(where, first, second, weights)[0]


@_symmetric.defjvp
def _(where, primals, tangents):
  loss, (of_first, of_second) = _symmetric_pass(where, *primals, gradients=True)
  slope = jnp.vdot(of_first, tangents[0]) + jnp.vdot(of_second, tangents[1])
  return loss, mesh.total(slope, where)


def _symmetric_pass(where, first, second, weights, gradients=False):
  """The loss, and its gradient with respect to this device's rows of both towers."""
  columns = mesh.columns_of((second, weights), where)
  empty = no_sums(first)

  def sums(own, column, of_rows, of_columns):
    logits = logits_of(own[0], column[0], are_pairs(own[1], column[1]))
    return add_exponentials(of_rows, logits, 1), add_exponentials(of_columns, logits, 0)

  of_rows, of_columns = mesh.meet(sums, where, (first, weights), columns, empty, empty)
  of_columns = mesh.bring_home_exponentials(*of_columns, where)
  matches = (first * second).sum(-1)
  each = sum(largest - matches + jnp.log(sums) for largest, sums in (of_rows, of_columns)) / 2
  weight = mesh.total(weights.sum(), where)
  loss = divide(mesh.total((weights * each).sum(), where), weight)
  if not gradients:
    return loss, None

  def gradient(own, column, of_row, of_column):
    (a, of_a, *softmax), (b, of_b, *other_softmax) = own, column
    logits = logits_of(a, b, are_pairs(of_a, of_b))
    slope = probabilities(logits, *softmax, 1) + probabilities(logits, *other_softmax, 0)
    return of_row + slope @ b, of_column + slope.T @ a

  half = lambda sums: (sums[0], weights / (2 * sums[1]))
  own = (first, weights, *half(of_rows))
  columns = (*columns, *mesh.columns_of(half(of_columns), where))
  of_first, of_second = mesh.meet(gradient, where, own, columns, jnp.zeros_like(first), jnp.zeros_like(second))
  of_second = mesh.bring_home(of_second, where)
  own = weights[:, None]
  return loss, (divide(of_first - own * second, weight), divide(of_second - own * first, weight))
