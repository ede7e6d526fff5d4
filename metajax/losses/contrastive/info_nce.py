"""InfoNCE: classify each row's match among the rows of the other tower."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp

from metajax import checks, mesh
from metajax.losses.contrastive.inputs import two_towers
from metajax.losses.contrastive.tiling import (
  Computations,
  Implementation,
  are_pairs,
  check_implementation,
  compute,
  logits_of,
)
from metajax.losses.sums import add_exponentials, divide, mean_of, no_sums, probabilities
from metajax.mesh import PairLayout
from metajax.types import Array, Scalar

START_LOG_SCALE = float(np.log(1 / 0.07))  # initial value of a learned log scale (arXiv:2103.00020)
LARGEST_LOG_SCALE = float(np.log(100))


def info_nce(
  first: Array,
  second: Array,
  scale: Scalar,
  *,
  weights: Array | None = None,
  implementation: Implementation | None = None,
  block_size: int | None = None,
  axis_name: str | None = None,
) -> Scalar:
  """The symmetric cross-entropy of finding each row's match in the other tower (arXiv:1807.03748, 2103.00020), in nats:

      L_ij = scale cos(first_i, second_j)
      loss = 1/2 mean_i (log sum_j exp L_ij - L_ii) + 1/2 mean_j (log sum_i exp L_ij - L_jj)

  Args:
    first, second: Embeddings `[n, d]`, of any floating type; row `i` of one matches row `i` of the other.
    scale: Inverse temperature, above 0; see `logit_scale`.
    weights: Weights of the pairs in the mean, `[n]`, at least 0; by default 1. A row of weight 0 is padding: it is not
      used as a negative, and its gradient is exactly 0 whatever it holds. Weights are not differentiated.
    implementation: "dense", "tiled", "sharded" or "ring"; see `metajax.losses.contrastive` for the default.
    block_size: Maximum number of rows per side of a tile; by default 512 on a CPU, 256 if devices share the CPU, and
      2,048 on an accelerator.
    axis_name: Axis of the enclosing `shard_map` or `pmap` that the rows are sharded over.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: if the towers are not floating `[n, d]` of one nonempty shape, weights are not `[n]` of at least 0, the
      scale is not above 0, `implementation` is unknown or incompatible with `axis_name`, or the number of rows is not
      divisible by the number of devices.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.losses import info_nce
    >>> images = texts = jnp.eye(8)  # row i of the images matches row i of the texts
    >>> round(float(jax.jit(info_nce)(images, texts, scale=1.0)), 3)  # ln(e + 7) - 1
    1.274
  """
  check_implementation(implementation, block_size, axis_name)
  rows = two_towers(first, second, scale, weights)
  return compute(Computations(_dense, _tiled), (), rows, implementation, block_size, axis_name)


def logit_scale(log_scale: Scalar) -> Scalar:
  """`exp(min(log_scale, ln 100))`: the learned scale of CLIP's logits (arXiv:2103.00020), `[] -> []`.

  Beyond the cap the gradient is the one at the cap, while a plain minimum has none, so the parameter can return.
  Initialize `log_scale` at `START_LOG_SCALE`, `ln(1 / 0.07)`; `metajax.train.keep_params_below` keeps the parameter
  itself below the cap.

  Raises:
    ValueError: if `log_scale` is not a scalar.
  """
  log_scale = jnp.asarray(checks.scalar("log_scale", log_scale))
  value = lax.stop_gradient(log_scale)  # log_scale - value below is 0, but carries the gradient
  return jnp.exp(jnp.minimum(value, LARGEST_LOG_SCALE) + (log_scale - value))


def _dense(_, rows):
  first, second, weights, *_ = rows
  logits = logits_of(first, second, are_pairs(weights, weights))
  each = (logsumexp(logits, 1) + logsumexp(logits, 0)) / 2 - (first * second).sum(-1)
  return mean_of(weights, each)


def _tiled(where: PairLayout, _, rows):
  first, second, weights, *_ = rows
  return _symmetric(where, first, second, weights)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _symmetric(where: PairLayout, first, second, weights):
  return _symmetric_pass(where, first, second, weights)[0]


@_symmetric.defjvp
def _(where, primals, tangents):
  loss, (of_first, of_second) = _symmetric_pass(where, *primals, gradients=True)
  slope = jnp.vdot(of_first, tangents[0]) + jnp.vdot(of_second, tangents[1])
  return loss, mesh.psum_if_sharded(slope, where)


def _symmetric_pass(where, first, second, weights, gradients=False):
  """Returns the loss, and its gradient with respect to this device's rows of both towers."""
  columns = mesh.gather_columns((second, weights), where)
  empty = no_sums(first)

  def sums(own, column, of_rows, of_columns):
    logits = logits_of(own[0], column[0], are_pairs(own[1], column[1]))
    return add_exponentials(of_rows, logits, 1), add_exponentials(of_columns, logits, 0)

  of_rows, of_columns = mesh.all_pairs(sums, where, (first, weights), columns, empty, empty)
  of_columns = mesh.reduce_scatter_logsumexp(*of_columns, where)
  matches = (first * second).sum(-1)
  each = sum(largest - matches + jnp.log(sums) for largest, sums in (of_rows, of_columns)) / 2
  weight = mesh.psum_if_sharded(weights.sum(), where)
  loss = divide(mesh.psum_if_sharded((weights * each).sum(), where), weight)
  if not gradients:
    return loss, None

  def gradient(own, column, of_row, of_column):
    (a, of_a, *softmax), (b, of_b, *other_softmax) = own, column
    logits = logits_of(a, b, are_pairs(of_a, of_b))
    slope = probabilities(logits, *softmax, 1) + probabilities(logits, *other_softmax, 0)
    return of_row + slope @ b, of_column + slope.T @ a

  def half(sums):
    return (sums[0], weights / (2 * sums[1]))

  own = (first, weights, *half(of_rows))
  columns = (*columns, *mesh.gather_columns(half(of_columns), where))
  of_first, of_second = mesh.all_pairs(gradient, where, own, columns, jnp.zeros_like(first), jnp.zeros_like(second))
  of_second = mesh.reduce_scatter_columns(of_second, where)
  own = weights[:, None]
  return loss, (divide(of_first - own * second, weight), divide(of_second - own * first, weight))
