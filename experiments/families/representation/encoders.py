"""The encoders of pretraining experiments, by name."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from experiments.families.convolution import outside_loops
from metajax import Network
from metajax.experiment.bounds import Bounds
from metajax.networks import conv4, resnet, vision_transformer
from metajax.networks.linen.layers import Remat
from metajax.networks.linen.resnet import Stem
from metajax.platforms import platform

Encoder = Literal[
  "conv4",
  "conv4_strided",
  "resnet10",
  "resnet18",
  "resnet34",
  "resnet50",
  "resnet101",
  "vit_ti",
  "vit_s",
  "vit_b",
  "vit_l",
]


class EncoderFlags(NamedTuple):
  """Image encoder."""

  encoder_name: Encoder = "resnet50"
  """Image encoder; conv4_strided downsamples by stride and accepts small tiles."""
  width: Annotated[float, Bounds(1 / 64, 64)] = 1.0
  """Multiplier of the channels of a ResNet, or of the 64 channels of conv4."""
  stem: Stem = "cifar"
  """Stem of a ResNet: imagenet, or cifar for small images."""
  patch: Annotated[int, Bounds(1, 4096)] = 4
  """Side of the patches of a vision transformer, in pixels."""
  bfloat16: bool | None = None
  """Compute in bfloat16; by default only on an accelerator."""
  remat: Remat = "none"
  """Parts of a transformer layer that the gradient computes again; dots, the least on accelerators, spares products."""


def encoder_of(flags: EncoderFlags) -> Network:
  """Image encoder for the given flags: `[n, h, w, c] -> [n, d]`.

  Raises:
    ValueError: if an argument is out of range.
  """
  name, width, stem, patch, bfloat16, remat = flags
  dtype = dtype_of(bfloat16)
  if name.startswith("resnet"):
    return resnet(int(name.removeprefix("resnet")), width=width, stem=stem, dtype=dtype)
  if name.startswith("vit_"):
    return vision_transformer(name.removeprefix("vit_").capitalize(), patch, dtype=dtype, **layers_of(remat))
  downsample = "stride" if name == "conv4_strided" else "max_pool"
  return conv4(round(64 * width), downsample=downsample, convolution=outside_loops())


def layers_of(remat: Remat) -> dict[str, Any]:
  """Returns how a transformer runs its layers: on an accelerator as a scan, which compiles much faster."""
  return {"remat": remat, "scan": platform() != "cpu" or remat != "none"}


def dtype_of(bfloat16: bool | None) -> jax.typing.DTypeLike:
  """Returns the dtype of computation; by default bfloat16 on an accelerator and float32 on a CPU."""
  half = platform() != "cpu" if bfloat16 is None else bfloat16
  return jnp.bfloat16 if half else jnp.float32
