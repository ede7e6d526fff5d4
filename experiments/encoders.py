"""The encoders that pretraining experiments choose from, by name."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from metajax import Network
from metajax.networks import conv4, resnet, vision_transformer
from metajax.networks.linen.resnet import Stem
from metajax.networks.linen.transformer import Size

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


def encoder(name: Encoder, width: float, stem: Stem, patch: int, bfloat16: bool | None) -> Network:
  """An encoder by its name.

  Args:
    name: conv4, conv4_strided, which halves by stride and takes small tiles, resnetN or vit_SIZE.
    width: a multiple of a residual network's filters, and of conv4's 64.
    stem: of a residual network.
    patch: of a vision transformer.
    bfloat16: whether it computes in bfloat16; by default where there is an accelerator.

  Raises:
    ValueError: if there is none of the name, or another argument is out of range.
  """
  if name not in get_args(Encoder):
    raise ValueError(f"expected --encoder to be one of {', '.join(get_args(Encoder))}, got {name!r}")
  dtype = dtype_of(bfloat16)
  if name.startswith("resnet"):
    return resnet(int(name.removeprefix("resnet")), width=width, stem=stem, dtype=dtype)
  if name.startswith("vit_"):
    return vision_transformer(name.removeprefix("vit_").capitalize(), patch, dtype=dtype)
  downsample = "stride" if name == "conv4_strided" else "max_pool"
  return conv4(round(64 * width), downsample=downsample, convolution="native")


def dtype_of(bfloat16: bool | None):
  """What to compute in; by default bfloat16 where there is an accelerator."""
  half = jax.default_backend() != "cpu" if bfloat16 is None else bfloat16
  return jnp.bfloat16 if half else jnp.float32


def size_of(flags: dict) -> Size:
  """The size of a transformer, by a command's flags."""
  return Size(flags["width"], flags["layers"], flags["heads"])
