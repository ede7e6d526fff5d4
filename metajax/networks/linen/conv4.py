"""The four-layer convolutional network of few-shot learning (arXiv:1606.04080, 1703.03400, 1703.05175)."""

import functools
import math
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.convolution import (
  Convolution,
  check_images,
  convolve,
  extract_patches,
  is_native,
  max_pool,
  native_convolve,
)
from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.normalized_product import NormalizedProduct
from metajax.types import Network

Downsample = Literal["stride", "max_pool"]
Pool = Literal["mean", "flatten", "none"]
Normalization = Literal["batch", "layer", "group", "none"]
MOMENTUM = 0.95  # of running statistics


def conv4(
  filters: int = 64,
  *,
  downsample: Downsample = "max_pool",
  pool: Pool = "flatten",
  num_downsamples: int = 4,
  normalization: Normalization = "batch",
  convolution: Convolution = "auto",
  dtype: DTypeLike | None = None,
) -> Network:
  """The Conv-4 backbone: four blocks of 3 x 3 convolution, normalization and ReLU, each halving the image.

  Prototypical and matching networks use max-pooling and flatten (28 x 28 images give `d = filters`); MAML on Omniglot
  uses stride 2 and the mean over space. For a classifier use `with_head(conv4(...), linear(ways))`.

  Args:
    filters: Number of filters per block.
    downsample: "stride" or "max_pool".
    pool: "mean" over space, "flatten", or "none" for feature maps `[n, h, w, filters]`.
    num_downsamples: Number of blocks that halve the image, counted from the first. Relation networks use 2, with `pool`
      "none".
    normalization: "batch" (batch statistics under `train=True`, running statistics otherwise), "layer", "group" (up to
      8 groups of filters) or "none"; all but "batch" process each image independently.
    convolution: "auto" is "native", XLA's convolution, on a TPU, and "slices", matrix products, elsewhere. On a CPU a
      training step with "native" takes 1.4 to 3 times as long with strides, 0.9 to 2 times as long with max-pooling,
      and up to 70 times as long in inner loops; predictions with max-pooling are up to 1.8 times faster with it, and
      take a third of the memory. On a GPU neither is measured.
    dtype: Type of the computation, e.g. `jax.numpy.bfloat16`, by default that of images and parameters. Parameters,
      statistics and outputs are float32 in any case.

  Returns:
    A Network from `[n, h, w, c]` to `[n, d]`.

  Raises:
    ValueError: if an argument is invalid; at init, if the images are not `[n, h, w, c]` or, with max-pooling, too small
      to be halved.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.networks import conv4
    >>> network, images = conv4(filters=64), jnp.zeros([5, 28, 28, 1])
    >>> jax.eval_shape(lambda: network.apply(*network.init(jax.random.key(0), images), images, train=False))[0].shape
    (5, 64)
  """
  return conv_blocks(
    4,
    filters,
    downsample=downsample,
    pool=pool,
    num_downsamples=num_downsamples,
    normalization=normalization,
    convolution=convolution,
    dtype=dtype,
  )


def conv_blocks(
  blocks: int,
  filters: int = 64,
  *,
  downsample: Downsample = "max_pool",
  pool: Pool = "flatten",
  num_downsamples: int | None = None,
  normalization: Normalization = "batch",
  convolution: Convolution = "auto",
  dtype: DTypeLike | None = None,
) -> Network:
  """Any number of `conv4` blocks, e.g. the parts before and after a `film` layer.

  Args:
    blocks: Number of blocks, at least 1.
    filters, downsample, pool, normalization, convolution, dtype: As for `conv4`.
    num_downsamples: Number of blocks that halve the image, counted from the first; by default all.

  Returns:
    A Network from `[n, h, w, c]` to `[n, d]`.

  Raises:
    ValueError: as for `conv4`, and if `blocks` is below 1 or `num_downsamples` exceeds it.
  """
  choices = {"downsample": Downsample, "pool": Pool, "normalization": Normalization, "convolution": Convolution}
  given = {"downsample": downsample, "pool": pool, "normalization": normalization, "convolution": convolution}
  for name, choice in choices.items():
    if given[name] not in get_args(choice):
      raise ValueError(f"expected {name} to be one of {', '.join(map(repr, get_args(choice)))}, got {given[name]!r}")
  for name, count in (("blocks", blocks), ("filters", filters)):
    if count < 1:
      raise ValueError(f"expected {name} to be at least 1, got {count}")
  num_downsamples = blocks if num_downsamples is None else num_downsamples
  if not 0 <= num_downsamples <= blocks:
    raise ValueError(f"expected num_downsamples from 0 to {blocks}, got {num_downsamples}")
  return from_linen(Blocks(blocks, filters, downsample, pool, num_downsamples, normalization, convolution, dtype))


class Blocks(nn.Module):
  """The blocks of `conv4`; given a second batch `beside`, they run on every pair, concatenated along channels.

  Batch statistics are those of the rows, or pairs, where `mask` is true, `[rows, 1, 1, 1]`.
  """

  blocks: int
  filters: int
  downsample: str
  pool: str
  num_downsamples: int
  normalization: str
  convolution: Convolution
  dtype: DTypeLike | None = None

  @nn.compact
  def __call__(self, images, train, beside=None, mask=None):
    check_images(images)
    least, given = 2**self.num_downsamples, " x ".join(map(str, images.shape[1:3]))
    if self.downsample == "max_pool" and min(images.shape[1:3]) < least:
      raise ValueError(
        f"expected images of at least {least} x {least} to halve {self.num_downsamples} times, got {given}"
      )
    images, beside = jax.tree.map(self._computed, (images, beside))
    for block in range(self.blocks):
      images = self._block(images, train, block, beside, mask)
      beside = None
    images = images if self.dtype is None else images.astype(jnp.promote_types(self.dtype, jnp.float32))
    if self.pool == "mean":
      return images.mean((1, 2))
    return images.reshape(images.shape[0], -1) if self.pool == "flatten" else images

  def _block(self, images, train, block, beside, mask):
    channels = images.shape[-1]
    shape = (3, 3, channels + (0 if beside is None else beside.shape[-1]), self.filters)
    kernel = self._computed(self.param(f"kernel_{block}", nn.initializers.xavier_uniform(), shape))
    halves = block < self.num_downsamples
    stride = 2 if halves and self.downsample == "stride" else 1
    run = functools.partial(native_convolve if is_native(self.convolution) else convolve, stride=stride)
    if beside is None and self._is_narrow(kernel.shape):
      patches = extract_patches(images, kernel.shape[:2], stride)
      images = NormalizedProduct(momentum=MOMENTUM, name=f"norm_{block}")(patches, kernel, train, mask)
    elif beside is None:
      images = self._normalized(run(images, kernel), train, block, mask)
    else:
      # A convolution is linear, so each image is convolved once, not once per pair.
      second = run(beside, kernel[:, :, channels:])
      pairs = run(images, kernel[:, :, :channels])[None] + second[:, None]
      images = self._normalized(pairs.reshape(-1, *pairs.shape[2:]), train, block, mask)
    images = jax.nn.relu(images)
    return max_pool(images) if halves and self.downsample == "max_pool" else images

  def _is_narrow(self, shape: tuple[int, ...]) -> bool:
    """Whether a pixel's neighborhood is narrower than the outputs, so that its statistics are cheaper than theirs."""
    return self.normalization == "batch" and not is_native(self.convolution) and math.prod(shape[:3]) < shape[3]

  def _normalized(self, maps, train, block, mask):
    # No bias before a normalization, which would subtract it again.
    if self.normalization == "batch":
      return nn.BatchNorm(not train, momentum=MOMENTUM, dtype=self.dtype, name=f"norm_{block}")(maps, mask=mask)
    if self.normalization == "layer":
      return nn.LayerNorm(reduction_axes=(1, 2, 3), feature_axes=-1, dtype=self.dtype, name=f"norm_{block}")(maps)
    if self.normalization == "group":
      return nn.GroupNorm(num_groups=math.gcd(self.filters, 8), dtype=self.dtype, name=f"norm_{block}")(maps)
    return maps + self._computed(self.param(f"bias_{block}", nn.initializers.zeros, (self.filters,)))

  def _computed(self, x):
    return x if self.dtype is None else x.astype(self.dtype)
