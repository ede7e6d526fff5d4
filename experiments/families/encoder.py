"""A published image encoder as the network of an experiment: its flags, its images, its trained params."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.adapt import only
from metajax.compose import frozen, low_rank, with_preprocessing, with_pretrained_params
from metajax.data.load import BUILT_IN
from metajax.experiment.bounds import Bounds, Count
from metajax.networks import load_encoder
from metajax.networks.checkpoints.encoders import Encoder
from metajax.types import Adapt, Network, Preprocessing

LOW_RANK, FROZEN, OWN = "low_rank", "frozen", "all"  # the first two are names of params too


class Start(NamedTuple):
  """Published encoder to start from, in place of a network of random params."""

  encoder: Path | None = None
  """Published weights: a .safetensors file or its folder, of a ViT, DeiT, DINOv2, SigLIP, CLIP or ResNet."""
  image_size: Annotated[int | None, Bounds(8, 4096)] = None
  """Side of the images for --encoder in pixels, by default the publisher's; it replaces --size."""
  trainable: Literal["all", "low_rank", "head"] = "all"
  """Params of --encoder to train and to adapt: all, low-rank adapters (LoRA), or none; those of a head always are."""
  rank: Count = 4
  """Rank of the adapters, with --trainable low_rank."""


class Images(NamedTuple):
  """The images of an experiment: side in pixels, channels, and how a publisher resizes them, if it is published."""

  size: int
  channels: int
  preprocessing: Preprocessing | None = None


def read(start: Start) -> Encoder | None:
  """The encoder of the flags, or None.

  Raises:
    FileNotFoundError, ValueError: as `metajax.networks.load_encoder`; if a flag has no effect without `--encoder`.
  """
  if start.encoder is None:
    for name, default in Start._field_defaults.items():
      if getattr(start, name) != default:
        raise ValueError(f"expected --{name.replace('_', '-')} with --encoder, got {getattr(start, name)} without it")
    return None
  return _loaded(os.path.abspath(os.path.expanduser(start.encoder)), start.image_size)


@functools.lru_cache(maxsize=2)  # a run reads it for its networks, its data and its page
def _loaded(path: str, image_size: int | None) -> Encoder:
  return load_encoder(path, image_size=image_size)


def images_for(start: Start, data: str, size: int) -> Images:
  """The images that a network of the flags takes.

  Args:
    start: Flags of the encoder.
    data: Name of the data; built-in characters are gray, drawn at a size.
    size: Side of the images without an encoder.
  """
  found = read(start)
  if found is None:
    return Images(size, 1)
  size = found.preprocessing.pixels
  return Images(size, 1) if data in BUILT_IN else Images(size, 3, found.preprocessing)


def encoder_for(start: Start, own: Network, *, pretrained: bool = True) -> Network:
  """The published encoder of the flags, or the experiment's own network without one.

  Gray images get three equal channels. With `--trainable low_rank` the params are `{"network", "low_rank"}`, with
  `--trainable head` `{"frozen"}`.

  Args:
    start: Flags of the encoder.
    own: Network without a published encoder.
    pretrained: False for the published architecture with random params.
  """
  found = read(start)
  if found is None:
    return own
  network = with_pretrained_params(found.network, found.params, found.state) if pretrained else found.network
  network = with_preprocessing(network, _in_color)
  if start.trainable == LOW_RANK:
    return low_rank(network, start.rank)
  return _nested(frozen(network)) if start.trainable == "head" else network


def adapted_params(start: Start, adapt: Adapt, head: str | None = "head") -> Adapt:
  """Restricts an inner loop to the params that the flags let adapt.

  Args:
    start: Flags of the encoder.
    adapt: Inner loop.
    head: Key of the head's params, beside "encoder", if there is one.
  """
  if start.encoder is None or start.trainable == OWN:
    return adapt
  parts = [f"encoder/{LOW_RANK}"] if start.trainable == LOW_RANK else []
  parts += [] if head is None else [head]
  return only(parts, adapt)


def optimizer_for(start: Start, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """The optimizer, which keeps no moments of params that the flags freeze, and does not change them."""
  if start.encoder is None or start.trainable == OWN:
    return optimizer

  return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, _labels)


def keeps_statistics(start: Start) -> bool:
  """Whether the published encoder uses batch norm, whose statistics training changes."""
  found = read(start)
  return found is not None and bool(found.state) and start.trainable != "head"


def variant_of(start: Start) -> tuple[str, ...]:
  """The variant of learners that start from a published encoder, in the records."""
  if start.encoder is None:
    return ()
  how: dict[str, Any] = {"low_rank": f", rank {start.rank}", "head": ", frozen"}
  return (f"from {Path(os.path.abspath(start.encoder)).name}{how.get(start.trainable, '')}",)


def refuse(start: Start, why: str):
  """Refuses a published encoder for a learner that has a network of its own.

  Raises:
    ValueError: naming the flag.
  """
  if start.encoder is not None:
    raise ValueError(f"expected no --encoder, {why}, got {str(start.encoder)!r}")


def _labels(params: Any) -> Any:
  """Labels each param as "trained" or "frozen"."""
  if not isinstance(params, Mapping):
    return jax.tree.map(lambda _: "trained", params)
  fixed = "network" if LOW_RANK in params else FROZEN

  def of(name, part):
    return jax.tree.map(lambda _: "frozen", part) if name == fixed else _labels(part)

  return {name: of(name, part) for name, part in params.items()}


def _nested(network: Network) -> Network:
  """The network, with its params under "frozen"."""

  def init(key, inputs):
    params, state = network.init(key, inputs)
    return {FROZEN: params}, state

  def apply(params, state, inputs, *, train, key=None):
    return network.apply(params[FROZEN], state, inputs, train=train, key=key)

  return Network(init, apply)


def _in_color(image):
  return jnp.repeat(image, 3, -1) if image.shape[-1] == 1 else image
