"""nt_xent and supervised_contrastive: which other rows are of a row's class. A row and itself are no pair."""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from metajax import mesh
from metajax.losses.tiles import add_exponentials, are_pairs, divide, logits_of, mean_of, no_sums, probabilities
from metajax.mesh import Rows


def dense(_, rows):
  embeddings, weights, labels = rows
  place = jnp.arange(len(embeddings))
  labels = place // 2 if labels is None else labels
  others = are_pairs(weights, weights) & (place[:, None] != place)
  positive = others & (labels[:, None] == labels)
  logits = logits_of(embeddings, embeddings, others)
  count = positive.sum(-1)
  each = logsumexp(logits, 1) - jnp.where(positive, logits, 0).sum(-1) / jnp.maximum(count, 1)
  return mean_of(jnp.where(count > 0, weights, 0), each)


def tiled(where: Rows, _, rows):
  return _to_others(where, *rows)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _to_others(where: Rows, embeddings, weights, labels, place):
  return _to_others_pass(where, embeddings, weights, labels, place)[0]


@_to_others.defjvp
def _(where, primals, tangents):
  loss, of_embeddings = _to_others_pass(where, *primals, gradients=True)
  return loss, mesh.total(jnp.vdot(of_embeddings, tangents[0]), where)


def _to_others_pass(where, embeddings, weights, labels, place, gradients=False):
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
    logits, positive = pairs(own[:4], column[:4])

    def add(so_far, axis):
      exponentials, alike, count = so_far
      alike += jnp.where(positive, logits, 0).sum(axis)
      return add_exponentials(exponentials, logits, axis), alike, count + positive.sum(axis)

    return add(of_rows, 1), add(of_columns, 0) if here else None

  start = (no_sums(embeddings), jnp.zeros_like(weights), jnp.zeros_like(place))
  (largest, exponentials), alike, count = everyone(sums, own, columns, start)
  weights = jnp.where(count > 0, weights, 0)
  several = jnp.maximum(count, 1)
  each = largest - alike / several + jnp.log(exponentials)
  weight = mesh.total(weights.sum(), where)
  loss = divide(mesh.total((weights * each).sum(), where), weight)
  if not gradients:
    return loss, None

  def gradient(own, column, of_rows, of_columns):
    logits, positive = pairs(own[:4], column[:4])
    (*softmax, share_row), (*other_softmax, share_column) = own[4], column[4]
    slope = probabilities(logits, *softmax, 1) + probabilities(logits, *other_softmax, 0)
    slope -= jnp.where(positive, share_row[:, None] + share_column, 0)
    return of_rows + slope @ column[0], of_columns + slope.T @ own[0] if here else None

  told = (largest, weights / exponentials, weights / several)
  own, columns = (*own, told), (*columns, mesh.columns_of(told, where))
  return loss, divide(everyone(gradient, own, columns, jnp.zeros_like(embeddings)), weight)
