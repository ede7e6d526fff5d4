"""Networks that hear: a convolutional one on log-mel spectrograms."""

from typing import Literal, get_args

import flax.linen as nn
import jax

from metajax.networks.linen.convolution import native_convolve
from metajax.networks.linen.from_linen import from_linen
from metajax.types import Network

OverTime = Literal["mean", "maximum", "flatten"]


def audio_conv(filters: int = 32, *, blocks: int = 4, over_time: OverTime = "mean") -> Network:
  """Blocks of 3 x 3 convolution of stride 2, batch norm and ReLU on spectrograms: `[n, frames, bands] -> [n, d]`.

  Each block halves time and frequency. In the end time is averaged, while bands stay apart: a sound's pitch is where it
  is. So `d = filters * ceil(bands / 2^blocks)`, and sounds of any length do.

  Args:
    filters: of the first block; each next one has twice as many, up to four times.
    blocks: at least 1.
    over_time: "mean", "maximum", or "flatten": time stays, and sounds have one length.

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
    # The first norm is of the spectrogram itself, whose level depends on the recording.
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
    return maps.reshape(len(maps), -1)
