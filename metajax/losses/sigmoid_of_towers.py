"""siglip: whether two rows are a match. A sum over pairs, of which one visit gives value and gradient."""

import functools

import jax
import jax.numpy as jnp

from metajax import mesh
from metajax.losses.tiles import divide, pair_weights
from metajax.mesh import Rows


def dense(bias, rows):
  first, second, weights, *_ = rows
  logits = first @ second.T + bias
  each = pair_weights(weights, weights) * jax.nn.softplus(logits)
  matches = weights * ((first * second).sum(-1) + bias)
  return divide(each.sum() - matches.sum(), weights.sum())


def tiled(where: Rows, bias, rows):
  first, second, weights, *_ = rows
  return _sigmoids(where, first, second, bias, weights)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sigmoids(where: Rows, first, second, bias, weights):
  return _sigmoids_pass(where, first, second, bias, weights)[0]


@_sigmoids.defjvp
def _(where, primals, tangents):
  loss, gradients = _sigmoids_pass(where, *primals, gradients=True)
  slope = sum(jnp.vdot(gradient, tangent) for gradient, tangent in zip(gradients, tangents[:3], strict=True))
  return loss, mesh.total(slope, where)


def _sigmoids_pass(where, first, second, bias, weights, gradients=False):
  """The loss, and this device's part of its gradient with respect to its rows of both towers and to the bias."""

  def visit(own, column, of_rows, of_columns):
    (a, of_a), (b, of_b) = own, column
    logits, weight = a @ b.T + bias, pair_weights(of_a, of_b)
    loss = of_rows[0] + (weight * jax.nn.softplus(logits)).sum(-1)
    if not gradients:
      return (loss,), None
    slope = weight * jax.nn.sigmoid(logits)
    return (loss, of_rows[1] + slope @ b, of_rows[2] + slope.sum(-1)), of_columns + slope.T @ a

  own = (first, weights)
  none = jnp.zeros_like(weights)
  of_rows = (none, jnp.zeros_like(first), none) if gradients else (none,)
  of_columns = jnp.zeros_like(second) if gradients else None
  columns = mesh.columns_of((second, weights), where)
  (each, *of_rows), of_second = mesh.meet(visit, where, own, columns, of_rows, of_columns)
  weight = mesh.total(weights.sum(), where)
  matches = weights * ((first * second).sum(-1) + bias)
  loss = divide(mesh.total((each - matches).sum(), where), weight)
  if not gradients:
    return loss, None
  of_first, of_bias = of_rows
  of_second, own = mesh.bring_home(of_second, where), weights[:, None]
  of_bias = (of_bias - weights).sum()
  return loss, tuple(divide(x, weight) for x in (of_first - own * second, of_second - own * first, of_bias))
