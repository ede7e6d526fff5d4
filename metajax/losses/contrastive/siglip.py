"""SigLIP: classify each pair as a match or not. A sum over pairs: one visit per tile gives value and gradient."""

import functools

import jax
import jax.numpy as jnp

from metajax import checks, mesh
from metajax.losses.contrastive.inputs import two_towers
from metajax.losses.contrastive.tiling import Computations, Implementation, check_implementation, compute, pair_weights
from metajax.losses.sums import divide
from metajax.mesh import PairLayout
from metajax.types import Array, Scalar


def siglip(
  first: Array,
  second: Array,
  scale: Scalar,
  bias: Scalar,
  *,
  weights: Array | None = None,
  implementation: Implementation | None = None,
  block_size: int | None = None,
  axis_name: str | None = None,
) -> Scalar:
  """The binary cross-entropy of all pairs, match or not, summed over the second tower (arXiv:2303.15343), in nats:

      x_ij = scale cos(first_i, second_j) + bias,   loss = 1/n sum_ij log(1 + exp(-y_ij x_ij)),   y_ij = 2 [i = j] - 1

  The paper initializes the scale at 10, as the exponential of a learned logarithm, and the bias at -10.

  Args:
    first, second, scale, implementation, block_size, axis_name: As for `info_nce`.
    bias: Bias of all logits.
    weights: Row weights `[n]`, at least 0. Pair `(i, j)` has weight `(weight_i + weight_j) / 2`, or 0 if either is 0;
      `n` in the formula becomes their sum.

  Returns:
    A scalar of at least 32 bits.

  Raises:
    ValueError: as for `info_nce`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.losses import siglip
    >>> images = texts = jnp.eye(8)  # row i of the images matches row i of the texts
    >>> round(float(jax.jit(siglip)(images, texts, scale=10.0, bias=-10.0)), 3)  # ln 2 + 7 ln(1 + e^-10)
    0.693
  """
  bias = checks.scalar("bias", bias)
  check_implementation(implementation, block_size, axis_name)
  rows = two_towers(first, second, scale, weights)
  bias = jnp.asarray(bias, rows[0].dtype)
  return compute(Computations(_dense, _tiled), bias, rows, implementation, block_size, axis_name)


def _dense(bias, rows):
  first, second, weights, *_ = rows
  logits = first @ second.T + bias
  each = pair_weights(weights, weights) * jax.nn.softplus(logits)
  matches = weights * ((first * second).sum(-1) + bias)
  return divide(each.sum() - matches.sum(), weights.sum())


def _tiled(where: PairLayout, bias, rows):
  first, second, weights, *_ = rows
  return _sigmoids(where, first, second, bias, weights)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sigmoids(where: PairLayout, first, second, bias, weights):
  return _sigmoids_pass(where, first, second, bias, weights)[0]


@_sigmoids.defjvp
def _(where, primals, tangents):
  loss, gradients = _sigmoids_pass(where, *primals, gradients=True)
  slope = sum(jnp.vdot(gradient, tangent) for gradient, tangent in zip(gradients, tangents[:3], strict=True))
  return loss, mesh.psum_if_sharded(slope, where)


def _sigmoids_pass(where, first, second, bias, weights, gradients=False):
  """Returns the loss, and this device's part of its gradient with respect to its rows of both towers and the bias."""

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
  columns = mesh.gather_columns((second, weights), where)
  (each, *of_rows), of_second = mesh.all_pairs(visit, where, own, columns, of_rows, of_columns)
  weight = mesh.psum_if_sharded(weights.sum(), where)
  matches = weights * ((first * second).sum(-1) + bias)
  loss = divide(mesh.psum_if_sharded((each - matches).sum(), where), weight)
  if not gradients:
    return loss, None
  of_first, of_bias = of_rows
  of_second, own = mesh.reduce_scatter_columns(of_second, where), weights[:, None]
  of_bias = (of_bias - weights).sum()
  return loss, tuple(divide(x, weight) for x in (of_first - own * second, of_second - own * first, of_bias))
