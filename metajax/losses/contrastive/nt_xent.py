"""NT-Xent and the supervised contrastive loss: classify each row's positives among all other rows.

Cosines are scaled after the largest is subtracted: scaled first, large logits would lose digits.
"""

import functools

import jax
import jax.numpy as jnp

from metajax import checks, mesh
from metajax.losses.contrastive.inputs import above_0, check_rows, counted, unit_or_zero, weights_of_rows
from metajax.losses.contrastive.tiling import (
  Computations,
  Implementation,
  are_pairs,
  check_implementation,
  compute,
  logits_of,
)
from metajax.losses.sums import NO_LOGIT, add_exponentials, divide, mean_of, no_sums, probabilities
from metajax.mesh import PairLayout
from metajax.tree import is_integer
from metajax.types import Array, Scalar

LEAST_SCALE = 1e-20


def nt_xent(
  embeddings: Array,
  temperature: Scalar,
  *,
  decoupled: bool = False,
  weights: Array | None = None,
  implementation: Implementation | None = None,
  block_size: int | None = None,
  axis_name: str | None = None,
) -> Scalar:
  """The cross-entropy of finding each view's other view among all other rows (SimCLR, arXiv:2002.05709), in nats:

      loss = mean_i (log sum_{a != i} exp(cos(z_i, z_a) / temperature) - cos(z_i, z_pair(i)) / temperature)

  Decoupled (DCL, arXiv:2110.06848), the sum leaves out `pair(i)` too, so that a view near its other view still learns
  from the negatives; small batches gain most.

  Args:
    embeddings: `z`, `[2 n, d]`, of any floating type. Rows `2 i` and `2 i + 1` are the two views of an image, so that
      both are on one device.
    temperature: Temperature, above 0.
    decoupled: Leave the other view out of the sum. A row without negatives then has weight 0.
    weights: `[2 n]`, as for `info_nce`; a row whose other view is padding has weight 0.
    implementation, block_size, axis_name: As for `info_nce`.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: if the number of rows is odd, and as for `info_nce`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.losses import nt_xent
    >>> views = jnp.repeat(jnp.eye(8), 2, axis=0)  # two equal views of 8 images
    >>> round(float(jax.jit(nt_xent)(views, temperature=0.5)), 3)  # ln(e^2 + 14) - 2
    1.063
  """
  check_rows(embeddings=embeddings)
  if len(embeddings) % 2:
    raise ValueError(f"expected two rows of each image, got {len(embeddings)} rows")
  checks.flag("decoupled", decoupled)
  return _supervised(embeddings, None, temperature, weights, implementation, block_size, axis_name, decoupled)


def supervised_contrastive(
  embeddings: Array,
  labels: Array,
  temperature: Scalar,
  *,
  weights: Array | None = None,
  implementation: Implementation | None = None,
  block_size: int | None = None,
  axis_name: str | None = None,
) -> Scalar:
  """The cross-entropy of finding the rows of the same class among all other rows (arXiv:2004.11362), in nats:

      loss = mean_i mean_{p of the class of i, p != i} (log sum_{a != i} exp S_ia - S_ip),   S = cos(z, z) / temperature

  This is the paper's `L_out`. A row without another row of its class has weight 0, but still serves as a negative.

  Args:
    embeddings: `z`, `[n, d]`, of any floating type.
    labels: One-hot `[n, classes]`, where an all-zero row is padding; or integers `[n]`, for many classes, where -1 is
      padding (a smaller value makes the loss NaN while tracing).
    temperature: Temperature, above 0.
    weights, implementation, block_size, axis_name: As for `info_nce`.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: if labels are neither one-hot nor integers, and as for `info_nce`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.losses import supervised_contrastive
    >>> embeddings, labels = jnp.repeat(jnp.eye(4), 2, axis=0), jnp.array([0, 0, 1, 1, 2, 2, 3, 3])
    >>> round(float(jax.jit(supervised_contrastive)(embeddings, labels, temperature=0.5)), 3)  # ln(e^2 + 6) - 2
    0.594
  """
  check_rows(embeddings=embeddings)
  checks.real("labels", labels)
  given, labels = labels, jnp.asarray(labels)
  if labels.shape[:1] != jnp.shape(embeddings)[:1] or labels.ndim not in (1, 2):
    shapes = f"{list(labels.shape)} for embeddings {list(jnp.shape(embeddings))}"
    raise ValueError(f"expected one-hot labels [n, classes] or integers [n], got {shapes}")
  if labels.ndim == 1 and not is_integer(labels):
    raise ValueError(f"expected labels [n] to be integers, got {labels.dtype}; one-hot labels are [n, classes]")
  weights = weights_of_rows(weights, embeddings)
  if labels.ndim == 2:
    checks.one_hot("labels", given)
    there = labels.any(-1)
    labels = labels.argmax(-1)
  else:
    checks.integers("labels", given, "n", low=-1)
    there = jnp.where(labels + 1 >= 0, labels >= 0, jnp.nan)
  weights = jnp.where(there == 0, 0, weights * there)
  return _supervised(embeddings, labels, temperature, weights, implementation, block_size, axis_name)


def _supervised(embeddings, labels, temperature, weights, implementation, block_size, axis_name, decoupled=False):
  weights = weights_of_rows(weights, embeddings)
  # At a higher temperature all cosines are equal to rounding, and masked logits would look like pairs.
  scale = jnp.maximum(1 / above_0("temperature", temperature, weights.dtype), LEAST_SCALE)
  check_implementation(implementation, block_size, axis_name)
  embeddings, weights = unit_or_zero(embeddings, weights), counted(weights)
  both = Computations(functools.partial(_dense, decoupled), functools.partial(_tiled, decoupled))
  return compute(both, scale, (embeddings, weights, labels), implementation, block_size, axis_name)


def _dense(decoupled, scale, rows):
  embeddings, weights, labels = rows
  place = jnp.arange(len(embeddings))
  labels = place // 2 if labels is None else labels
  others = are_pairs(weights, weights) & (place[:, None] != place)
  positive = others & (labels[:, None] == labels)
  cosines = jnp.where(others, _with_each_other(embeddings), NO_LOGIT)
  count = positive.sum(-1)
  alike = jnp.where(positive, cosines, 0).sum(-1) / jnp.maximum(count, 1)
  summed = jnp.where(positive, NO_LOGIT, cosines) if decoupled else cosines
  largest, exponentials = add_exponentials(no_sums(embeddings), summed, 1, scale)
  each = scale * (largest - alike) + jnp.log(exponentials)
  return mean_of(jnp.where((count > 0) & (largest != NO_LOGIT), weights, 0), each)


@jax.custom_jvp
def _with_each_other(x):
  return x @ x.T


@_with_each_other.defjvp
def _(primals, tangents):
  # In the backward pass both sides are added before the product with the rows: one product, one rounding.
  (x,), (change,) = primals, tangents
  product = change @ x.T
  return _with_each_other(x), product + product.T


def _tiled(decoupled, where: PairLayout, scale, rows):
  return _to_others(decoupled, where, scale, *rows)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _to_others(decoupled, where: PairLayout, scale, embeddings, weights, labels, place):
  return _to_others_pass(decoupled, where, scale, embeddings, weights, labels, place)[0]


@_to_others.defjvp
def _(decoupled, where, primals, tangents):
  scale, embeddings, *_ = primals
  loss, of_embeddings = _to_others_pass(decoupled, where, *primals, gradients=True)
  # A logit has degree 2 in the rows and degree 1 in the scale.
  of_scale = jnp.vdot(of_embeddings, embeddings) / (2 * scale)
  return loss, mesh.psum_if_sharded(jnp.vdot(of_embeddings, tangents[1]) + of_scale * tangents[0], where)


def _to_others_pass(decoupled, where, scale, embeddings, weights, labels, place, gradients=False):
  """Returns the loss, and its gradient with respect to this device's rows."""
  here = where.axis is None  # each pair of tiles is then visited once, for both sides
  own = (embeddings, weights, labels, place)
  columns = mesh.gather_columns(own, where)

  def pairs(own, column):
    (a, of_a, label, place), (b, of_b, labels, places) = own, column
    others = are_pairs(of_a, of_b) & (place[:, None] != places)
    cosines, positive = logits_of(a, b, others), others & (label[:, None] == labels)
    return cosines, positive, jnp.where(positive, NO_LOGIT, cosines) if decoupled else cosines

  def everyone(visit, own, columns, of_rows):
    if here:
      return mesh.symmetric_all_pairs(visit, where.block_size, own, of_rows)
    return mesh.all_pairs(visit, where, own, columns, of_rows, None)[0]

  def sums(own, column, of_rows, of_columns):
    cosines, positive, summed = pairs(own[:4], column[:4])

    def add(so_far, axis):
      exponentials, alike, count = so_far
      alike += jnp.where(positive, cosines, 0).sum(axis)
      return add_exponentials(exponentials, summed, axis, scale), alike, count + positive.sum(axis)

    return add(of_rows, 1), add(of_columns, 0) if here else None

  start = (no_sums(embeddings), jnp.zeros_like(weights), jnp.zeros_like(place))
  (largest, exponentials), alike, count = everyone(sums, own, columns, start)
  weights = jnp.where((count > 0) & (largest != NO_LOGIT), weights, 0)
  several = jnp.maximum(count, 1)
  each = scale * (largest - alike / several) + jnp.log(exponentials)
  weight = mesh.psum_if_sharded(weights.sum(), where)
  loss = divide(mesh.psum_if_sharded((weights * each).sum(), where), weight)
  if not gradients:
    return loss, None

  def gradient(own, column, of_rows, of_columns):
    _, positive, summed = pairs(own[:4], column[:4])
    (*softmax, share_row), (*other_softmax, share_column) = own[4], column[4]
    slope = probabilities(summed, *softmax, 1, scale) + probabilities(summed, *other_softmax, 0, scale)
    slope -= jnp.where(positive, share_row[:, None] + share_column, 0)
    return of_rows + slope @ column[0], of_columns + slope.T @ own[0] if here else None

  told = (largest, weights / exponentials, weights / several)
  own, columns = (*own, told), (*columns, mesh.gather_columns(told, where))
  return loss, scale * divide(everyone(gradient, own, columns, jnp.zeros_like(embeddings)), weight)
