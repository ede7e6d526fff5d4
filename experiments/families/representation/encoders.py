"""The encoders that pretraining experiments choose from, by name."""

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metajax import Network
from metajax.experiment.bounds import Bounds
from metajax.networks import conv4, resnet, vision_transformer
from metajax.networks.linen.resnet import Stem

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
  """The encoder of images."""

  encoder_name: Encoder = "resnet50"
  """conv4, conv4_strided, which halves by stride and takes small tiles, resnet10 to resnet101, vit_ti to vit_l."""
  width: Annotated[float, Bounds(1 / 64, 64)] = 1.0
  """A multiple of a residual network's filters, and of conv4's 64."""
  stem: Stem = "cifar"
  """Of a residual network: imagenet, or cifar for small images."""
  patch: Annotated[int, Bounds(1, 4096)] = 4
  """Side of a vision transformer's patches."""
  bfloat16: bool | None = None
  """Compute in bfloat16; by default where there is an accelerator."""


def encoder_of(flags: EncoderFlags) -> Network:
  """An encoder of images.

  Raises:
    ValueError: if an argument is out of range.
  """
  name, width, stem, patch, bfloat16 = flags
  dtype = dtype_of(bfloat16)
  if name.startswith("resnet"):
    return resnet(int(name.removeprefix("resnet")), width=width, stem=stem, dtype=dtype)
  if name.startswith("vit_"):
    return vision_transformer(name.removeprefix("vit_").capitalize(), patch, dtype=dtype)
  downsample = "stride" if name == "conv4_strided" else "max_pool"
  return conv4(round(64 * width), downsample=downsample, convolution="native")


def dtype_of(bfloat16: bool | None) -> jax.typing.DTypeLike:
  """What to compute in; by default bfloat16 where there is an accelerator."""
  half = jax.default_backend() != "cpu" if bfloat16 is None else bfloat16
  return jnp.bfloat16 if half else jnp.float32
