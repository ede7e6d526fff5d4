"""Contrastive losses over all pairs of a batch: global arrays in, a scalar out, on any number of devices.

Rows are compared by their cosine. Under a mesh (`jax.set_mesh`) the rows of the whole batch are each other's negatives,
wherever they are, and values and gradients are those of one device. How a loss is computed is chosen by its size and
the mesh, or by the caller; all ways agree to rounding:

- "dense": every logit at once, `O(n^2)` memory; the fastest for small batches.
- "tiled": one tile of logits at a time, `O(n d)` memory. Its gradient has a rule of its own, which visits each tile
  once forward and once backward.
- "sharded": tiled, each device its own rows. One tower is gathered, and its gradient brought home.
- "ring": the same, but the other devices' rows come by one device after the other and none are gathered.

By default a loss is "sharded" on several devices ("ring" where gathered rows would take more than a gibibyte), and on
one "dense" up to 1,024 rows, "tiled" beyond.

Inside someone's own `shard_map` or `pmap` a loss is that of the device's own rows, unless it is told the axis's name:
then it is that of all rows, known to all devices. There its derivative follows JAX's own rules: with `shard_map` the
gradient of replicated params is right as it is; with `pmap`, and under `check_vma=False`, take the mean of the devices'
gradients.

A row that weighs and holds NaN makes the loss NaN. What is refused where it is known (a weight below 0, a temperature
that is not above 0) makes it NaN while tracing.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from metajax import checks, mesh
from metajax.compose import unit_rows
from metajax.losses import sigmoid_of_towers, softmax_of_rows, softmax_of_towers
from metajax.losses.tiles import as_weights
from metajax.mesh import Rows
from metajax.types import Array, Scalar

How = Literal["dense", "tiled", "sharded", "ring"]

LARGEST_DENSE = 1024  # rows
LARGEST_GATHERED = 2**30  # bytes
TILE = 2048  # rows of a side, on an accelerator, which is to be filled
TILE_ON_CPU, TILE_OF_A_CORE = 512, 256  # in its cache: for all cores, and where devices share a CPU

START_LOG_SCALE = float(np.log(1 / 0.07))  # of a learned scale (arXiv:2103.00020)
LARGEST_LOG_SCALE = float(np.log(100))
LEAST_SCALE = 1e-20


def info_nce(
  first: Array,
  second: Array,
  scale: Scalar,
  *,
  weights: Array | None = None,
  how: How | None = None,
  tile: int | None = None,
  axis_name: str | None = None,
) -> Scalar:
  """The symmetric cross-entropy of finding each row's match in the other tower (arXiv:1807.03748, 2103.00020), in nats:

      L_ij = scale cos(first_i, second_j)
      loss = 1/2 mean_i (log sum_j exp L_ij - L_ii) + 1/2 mean_j (log sum_i exp L_ij - L_jj)

  Args:
    first, second: `[n, d]`, of any floating type; row `i` of one matches row `i` of the other.
    scale: one over the temperature, above 0; see `learned_scale`.
    weights: `[n]`, not negative: of each pair in the mean, which is the weighted one. A row of weight 0 is padding: it
      is nobody's negative, and its gradient is exactly 0 whatever it holds. Weights are not differentiated.
    how: "dense", "tiled", "sharded" or "ring"; by default chosen as the module says.
    tile: rows of each side of a tile, at most; by default 512 on a CPU, 256 where devices share it, and 2,048 on
      an accelerator.
    axis_name: of the `shard_map` or `pmap` around, over which the rows are spread.

  Raises:
    ValueError: if the towers are not floating `[n, d]` of one shape, none of them 0, weights are not `[n]` and of at
      least 0, the scale is not above 0, `how` is none of these or does not go with `axis_name`, or the rows do not
      divide by the devices.
  """
  _check_how(how, tile, axis_name)
  rows = _towers(first, second, scale, weights)
  return _compute(softmax_of_towers, (), rows, how, tile, axis_name)


def siglip(
  first: Array,
  second: Array,
  scale: Scalar,
  bias: Scalar,
  *,
  weights: Array | None = None,
  how: How | None = None,
  tile: int | None = None,
  axis_name: str | None = None,
) -> Scalar:
  """The binary cross-entropy of every pair being a match, summed over the second tower (arXiv:2303.15343), in nats:

      x_ij = scale cos(first_i, second_j) + bias,   loss = 1/n sum_ij log(1 + exp(-y_ij x_ij)),   y_ij = 2 [i = j] - 1

  The paper starts at scale 10, as the exponential of a learned logarithm, and bias -10.

  Args:
    bias: of every logit.
    weights: `[n]`, not negative: pair `(i, j)` weighs `(weight_i + weight_j) / 2`, and nothing if either is 0; `n` is
      their sum.
    first, second, scale, how, tile, axis_name: as for `info_nce`.

  Raises:
    ValueError: as `info_nce`.
  """
  bias = checks.scalar("bias", bias)
  _check_how(how, tile, axis_name)
  rows = _towers(first, second, scale, weights)
  bias = jnp.asarray(bias, rows[0].dtype)
  return _compute(sigmoid_of_towers, bias, rows, how, tile, axis_name)


def nt_xent(
  embeddings: Array,
  temperature: Scalar,
  *,
  weights: Array | None = None,
  how: How | None = None,
  tile: int | None = None,
  axis_name: str | None = None,
) -> Scalar:
  """The cross-entropy of finding each view's other view among all other rows (SimCLR, arXiv:2002.05709), in nats:

      loss = mean_i (log sum_{a != i} exp(cos(z_i, z_a) / temperature) - cos(z_i, z_pair(i)) / temperature)

  Args:
    embeddings: `z`, `[2 n, d]`, of any floating type: rows `2 i` and `2 i + 1` are two views of one picture, so that a
      picture's views are on one device.
    temperature: above 0.
    weights: `[2 n]`, as for `info_nce`; a row whose other view is padding weighs nothing.
    how, tile, axis_name: as for `info_nce`.

  Raises:
    ValueError: if the number of rows is odd, and as `info_nce`.
  """
  _check_rows(embeddings=embeddings)
  if len(embeddings) % 2:
    raise ValueError(f"expected two rows of each picture, got {len(embeddings)} rows")
  return _supervised(embeddings, None, temperature, weights, how, tile, axis_name)


def supervised_contrastive(
  embeddings: Array,
  labels: Array,
  temperature: Scalar,
  *,
  weights: Array | None = None,
  how: How | None = None,
  tile: int | None = None,
  axis_name: str | None = None,
) -> Scalar:
  """The cross-entropy of finding the other rows of a row's class among all other rows (arXiv:2004.11362), in nats:

      loss = mean_i mean_{p of the class of i, p != i} (log sum_{a != i} exp S_ia - S_ip),   S = cos(z, z) / temperature

  which is the paper's `L_out`. Rows without another of their class are negatives of others and weigh nothing.

  Args:
    embeddings: `z`, `[n, d]`, of any floating type.
    labels: one-hot `[n, classes]`, of which an all-zero row is padding; or integers `[n]`, for many classes, of which
      -1 is padding, and one below that NaN while tracing.
    temperature: above 0.
    weights, how, tile, axis_name: as for `info_nce`.

  Raises:
    ValueError: if labels are neither, and as `info_nce`.
  """
  _check_rows(embeddings=embeddings)
  checks.real("labels", labels)
  given, labels = labels, jnp.asarray(labels)
  if labels.shape[:1] != jnp.shape(embeddings)[:1] or labels.ndim not in (1, 2):
    shapes = f"{list(labels.shape)} for embeddings {list(jnp.shape(embeddings))}"
    raise ValueError(f"expected one-hot labels [n, classes] or integers [n], got {shapes}")
  if labels.ndim == 1 and not jnp.issubdtype(labels.dtype, jnp.integer):
    raise ValueError(f"expected labels [n] to be integers, got {labels.dtype}; one-hot labels are [n, classes]")
  weights = _weights(weights, embeddings)
  if labels.ndim == 2:
    checks.one_hot("labels", given)
    there = labels.any(-1)
    labels = labels.argmax(-1)
  else:
    checks.integers("labels", given, "n", low=-1)
    there = jnp.where(labels + 1 >= 0, labels >= 0, jnp.nan)
  weights = jnp.where(there == 0, 0, weights * there)
  return _supervised(embeddings, labels, temperature, weights, how, tile, axis_name)


def learned_scale(log_scale: Scalar) -> Scalar:
  """`exp(min(log_scale, ln 100))`, a learned scale of the logits (arXiv:2103.00020), never stuck: `[]` to `[]`.

  Beyond the cap its gradient is that at the cap, where a plain minimum has none, so what is beyond can come back. Start
  at `START_LOG_SCALE`, `ln(1 / 0.07)`; `metajax.train.keep_below` keeps the parameter itself below the cap.

  Raises:
    ValueError: if it is no number.
  """
  log_scale = jnp.asarray(checks.scalar("log_scale", log_scale))
  value = lax.stop_gradient(log_scale)  # of which what is left is 0, with the gradient
  return jnp.exp(jnp.minimum(value, LARGEST_LOG_SCALE) + (log_scale - value))


def _towers(first, second, scale, weights):
  """The rows of two towers as `_compute` takes them, the first one with the scale."""
  _check_rows(first=first, second=second)
  if jnp.shape(first) != jnp.shape(second):
    raise ValueError(f"expected two towers of one shape, got {list(jnp.shape(first))} and {list(jnp.shape(second))}")
  weights = _weights(weights, first)
  scale = _above_0("scale", scale, weights.dtype)
  first, second = (_unit(x, weights) for x in (first, second))
  return first * scale, second, _counted(weights), None


def _supervised(embeddings, labels, temperature, weights, how, tile, axis_name):
  weights = _weights(weights, embeddings)
  # At any higher temperature all are as near, to rounding, while what is no pair would seem to be one.
  scale = jnp.maximum(1 / _above_0("temperature", temperature, weights.dtype), LEAST_SCALE)
  _check_how(how, tile, axis_name)
  embeddings, weights = _unit(embeddings, weights), _counted(weights)
  return _compute(softmax_of_rows, scale, (embeddings, weights, labels), how, tile, axis_name)


def _above_0(name, value, dtype):
  """A number that is NaN where it is not above 0, of which one that is known is refused."""
  checks.scalar(name, value)
  value = checks.positive(name, value)
  value = jnp.asarray(value, dtype)
  return jnp.where(value > 0, value, jnp.nan)


def _check_rows(**towers):
  for name, x in towers.items():
    checks.floating(name, x, "n", "d")
    if 0 in x.shape:
      raise ValueError(f"expected {name} of at least 1 row and 1 value a row, got an array of shape {list(x.shape)}")


def _weights(weights, like) -> Array:
  """Weights of rows, in the type of the logits; NaN for a negative one."""
  kind = jnp.promote_types(jnp.result_type(like), jnp.float32)
  if weights is None:
    return jnp.ones(len(like), kind)
  checks.real("weights", weights)
  if jnp.shape(weights) != (len(like),):
    raise ValueError(f"expected weights [{len(like)}], one for each row, got {list(jnp.shape(weights))}")
  checks.weights("weights", weights)
  return as_weights(weights, kind)


def _unit(embeddings, weights):
  """Rows of length 1, and zeros for padding, which may hold anything, in 32 bits at least; NaN for a weight of NaN."""
  of_row = weights[:, None]
  rows = jnp.where(jnp.isnan(of_row), jnp.nan, jnp.asarray(embeddings, weights.dtype))
  return unit_rows(jnp.where(of_row == 0, 0, rows))


def _counted(weights):
  """Weights by which rows are counted: a row that has become NaN is among them, so that it is not passed over."""
  return jnp.where(jnp.isnan(weights), 1, weights)


def _check_how(how, most, axis_name):
  if how is not None:
    checks.choice("how", how, How)
  if most is not None:
    checks.count("a tile's rows", most)
  if axis_name is not None and how in ("dense", "tiled"):
    raise ValueError(f"expected how to be 'sharded' or 'ring' with an axis_name, got {how!r}")


def _compute(ways, shared, rows, how, most, axis_name):
  """A loss by one of its two ways: `ways.tiled(Rows, shared, rows)` or `ways.dense(shared, rows)`.

  `rows` are towers `[n, d]`, weights `[n]`, and labels `[n]` or None: places, two by two.
  """
  how = how or _rule(rows[0], axis_name)
  if how == "dense":
    return ways.dense(shared, rows)

  def local(axis, shared, rows):
    *rows, labels = rows
    place = mesh.position(axis, len(rows[0]))
    rows = (*rows, place // 2 if labels is None else labels, place)
    on_cpu = TILE_ON_CPU if axis is None else TILE_OF_A_CORE
    tile = _tile(len(place), most or (on_cpu if jax.default_backend() == "cpu" else TILE))
    padding = -len(place) % tile
    rows = jax.tree.map(lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)), rows)
    return ways.tiled(Rows(axis, how == "ring", tile), shared, rows)

  if axis_name is not None:
    return local(axis_name, shared, rows)
  return mesh.over_rows(local, shared, rows, whole=how == "tiled")


def _rule(tower, axis_name) -> How:
  """How a loss is computed by default, from its size and the devices that share its rows."""
  count, width = tower.shape
  if axis_name is not None:
    count *= mesh.axis_size(axis_name)
  elif mesh.device_count() == 1:
    return "dense" if count <= LARGEST_DENSE else "tiled"
  return "sharded" if count * width * tower.dtype.itemsize <= LARGEST_GATHERED else "ring"


def _tile(count, most) -> int:
  """Rows of a tile: as few tiles as there need be, as even as they can be, a multiple of 8 rows."""
  return 8 * math.ceil(count / math.ceil(count / most) / 8)
