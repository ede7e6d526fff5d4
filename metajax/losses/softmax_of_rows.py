"""nt_xent and supervised_contrastive: which other rows are of a row's class. A row and itself are no pair.

Cosines are scaled after the largest is taken off: large logits would lose digits.
"""

import functools

import jax
import jax.numpy as jnp

from metajax import mesh
from metajax.losses.tiles import (
  NO_LOGIT,
  add_exponentials,
  are_pairs,
  divide,
  logits_of,
  mean_of,
  no_sums,
  probabilities,
)
from metajax.mesh import Rows


def dense(scale, rows):
  embeddings, weights, labels = rows
  place = jnp.arange(len(embeddings))
  labels = place // 2 if labels is None else labels
  others = are_pairs(weights, weights) & (place[:, None] != place)
  positive = others & (labels[:, None] == labels)
  cosines = jnp.where(others, _with_each_other(embeddings), NO_LOGIT)
  count = positive.sum(-1)
  alike = jnp.where(positive, cosines, 0).sum(-1) / jnp.maximum(count, 1)
  largest, exponentials = add_exponentials(no_sums(embeddings), cosines, 1, scale)
  each = scale * (largest - alike) + jnp.log(exponentials)
  return mean_of(jnp.where(count > 0, weights, 0), each)


@jax.custom_jvp
def _with_each_other(x):
  return x @ x.T


@_with_each_other.defjvp
def _(primals, tangents):
  # Backward, the two sides are added before they meet the rows: one product for two, with one rounding.
  (x,), (change,) = primals, tangents
  product = change @ x.T
  return _with_each_other(x), product + product.T


def tiled(where: Rows, scale, rows):
  return _to_others(where, scale, *rows)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _to_others(where: Rows, scale, embeddings, weights, labels, place):
  return _to_others_pass(where, scale, embeddings, weights, labels, place)[0]


@_to_others.defjvp
def _(where, primals, tangents):
  scale, embeddings, *_ = primals
  loss, of_embeddings = _to_others_pass(where, *primals, gradients=True)
  of_scale = jnp.vdot(of_embeddings, embeddings) / (2 * scale)  # a logit is of degree 2 in the rows, of 1 in the scale
  return loss, mesh.total(jnp.vdot(of_embeddings, tangents[1]) + of_scale * tangents[0], where)


def _to_others_pass(where, scale, embeddings, weights, labels, place, gradients=False):
  """The loss, and its gradient with respect to this device's rows."""
  here = where.axis is None  # then two tiles meet once, for both
  own = (embeddings, weights, labels, place)
  columns = mesh.columns_of(own, where)

  def pairs(own, column):
    (a, of_a, label, place), (b, of_b, labels, places) = own, column
    others = are_pairs(of_a, of_b) & (place[:, None] != places)
    return logits_of(a, b, others), others & (label[:, None] == labels)

  def everyone(visit, own, columns, of_rows):
    if here:
      return mesh.meet_each_other(visit, where.tile, own, of_rows)
    return mesh.meet(visit, where, own, columns, of_rows, None)[0]

  def sums(own, column, of_rows, of_columns):
    cosines, positive = pairs(own[:4], column[:4])

    def add(so_far, axis):
      exponentials, alike, count = so_far
      alike += jnp.where(positive, cosines, 0).sum(axis)
      return add_exponentials(exponentials, cosines, axis, scale), alike, count + positive.sum(axis)

    return add(of_rows, 1), add(of_columns, 0) if here else None

  start = (no_sums(embeddings), jnp.zeros_like(weights), jnp.zeros_like(place))
  (largest, exponentials), alike, count = everyone(sums, own, columns, start)
  weights = jnp.where(count > 0, weights, 0)
  several = jnp.maximum(count, 1)
  each = scale * (largest - alike / several) + jnp.log(exponentials)
  weight = mesh.total(weights.sum(), where)
  loss = divide(mesh.total((weights * each).sum(), where), weight)
  if not gradients:
    return loss, None

  def gradient(own, column, of_rows, of_columns):
    cosines, positive = pairs(own[:4], column[:4])
    (*softmax, share_row), (*other_softmax, share_column) = own[4], column[4]
    slope = probabilities(cosines, *softmax, 1, scale) + probabilities(cosines, *other_softmax, 0, scale)
    slope -= jnp.where(positive, share_row[:, None] + share_column, 0)
    return of_rows + slope @ column[0], of_columns + slope.T @ own[0] if here else None

  told = (largest, weights / exponentials, weights / several)
  own, columns = (*own, told), (*columns, mesh.columns_of(told, where))
  return loss, scale * divide(everyone(gradient, own, columns, jnp.zeros_like(embeddings)), weight)
