"""A convolutional network on log-mel spectrograms."""

from typing import Literal, get_args

import flax.linen as nn
import jax

from metajax.networks.linen.convolution import native_convolve
from metajax.networks.linen.from_linen import from_linen
from metajax.types import Network

OverTime = Literal["mean", "maximum", "flatten"]


def audio_conv(filters: int = 32, *, blocks: int = 4, over_time: OverTime = "mean") -> Network:
  """Blocks of 3 x 3 convolution with stride 2, batch norm and ReLU on spectrograms.

  Each block halves time and frequency. At the end time is averaged, while frequency bands are kept, because a sound's
  pitch is its position. Sounds of any length work.

  Args:
    filters: Number of filters of the first block; the second has twice, and all later ones four times as many.
    blocks: Number of blocks, at least 1.
    over_time: Pooling over time: "mean", "maximum", or "flatten", which keeps time and needs sounds of one length.

  Returns:
    A Network from `[n, frames, bands]` to `[n, d]`; with three or more blocks and pooling over time,
    `d = 4 filters * ceil(bands / 2^blocks)`.

  Raises:
    ValueError: if an argument is out of range; at init, if inputs are not `[n, frames, bands]`.
  """
  if filters < 1 or blocks < 1 or over_time not in get_args(OverTime):
    choices = ", ".join(map(repr, get_args(OverTime)))
    raise ValueError(
      f"expected filters and blocks of at least 1 and over_time of {choices}, got {filters}, {blocks}, {over_time!r}"
    )
  return from_linen(_Audio(filters, blocks, over_time))


class _Audio(nn.Module):
  filters: int
  blocks: int
  over_time: str

  @nn.compact
  def __call__(self, spectrograms, train):
    if spectrograms.ndim != 3:
      raise ValueError(f"expected spectrograms [n, frames, bands], got {list(spectrograms.shape)}")
    # The first norm normalizes the spectrogram, whose level depends on the recording.
    maps = nn.BatchNorm(use_running_average=not train, momentum=0.95, name="level")(spectrograms[..., None])
    for block in range(self.blocks):
      shape = (3, 3, maps.shape[-1], self.filters * 2 ** min(block, 2))
      maps = native_convolve(maps, self.param(f"kernel_{block}", nn.initializers.he_normal(), shape), 2)
      maps = nn.BatchNorm(use_running_average=not train, momentum=0.95, name=f"norm_{block}")(maps)
      maps = jax.nn.relu(maps)
    if self.over_time == "mean":
      maps = maps.mean(1)
    elif self.over_time == "maximum":
      maps = maps.max(1)
    return maps.reshape(maps.shape[0], -1)
