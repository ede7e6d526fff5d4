"""Settings of a published vision transformer that its arrays do not determine."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from metajax import checks
from metajax.networks.checkpoints.files import read_config
from metajax.networks.checkpoints.hugging_face import ACTIVATIONS
from metajax.networks.checkpoints.preprocessing import of_hugging_face, of_timm
from metajax.networks.checkpoints.settings import CONFIG, HEAD, check_object, check_said, processor_of
from metajax.networks.checkpoints.vit_names import VisionTransformer
from metajax.networks.linen.transformer import Details
from metajax.types import Preprocessing

HEADS = {192: 3, 1152: 16, 1280: 16, 1408: 16, 1664: 16}  # by width, where a head is not of 64 values
SIGLIP_HEADS = HEADS | {1536: 16}
# Hugging Face's defaults: heads, activation, epsilon, and the processor of images.
TYPES: dict[str, tuple[int, str, float, str]] = {
  "vit": (12, "gelu", 1e-12, "ViTImageProcessor"),
  "deit": (12, "gelu", 1e-12, "DeiTImageProcessor"),
  "dinov2": (12, "gelu", 1e-6, "BitImageProcessor"),
  "dinov2_with_registers": (12, "gelu", 1e-6, "BitImageProcessor"),
  "siglip": (12, "gelu_pytorch_tanh", 1e-6, "SiglipImageProcessor"),
  "siglip_vision_model": (12, "gelu_pytorch_tanh", 1e-6, "SiglipImageProcessor"),
}
ANY_SIZE = ("dinov2", "dinov2_with_registers")  # positions of 518 pixels are interpolated to the processor's 224


class Settings(NamedTuple):
  """Settings that the arrays do not determine.

  Attributes:
    num_heads: Number of attention heads.
    details: Activation and norms.
    preprocessing: Preprocessing of the images.
    pixels: Side of the weights' images, in pixels; what remains after the last whole patch is not seen.
    antialias: How positions are interpolated, see `resized_positions`.
    any_size: Whether the positions may be of another size than the preprocessing's.
    said: A warning on guessed settings, if any.
  """

  num_heads: int
  details: Details
  preprocessing: Preprocessing
  pixels: int
  antialias: bool = True
  any_size: bool = False
  said: str = ""


def settings_of(folder: str, path: str, layout: str, measured: VisionTransformer) -> Settings:
  """Reads the settings from a configuration, or guesses them with a warning."""
  config, where = read_config(folder, CONFIG), os.path.join(folder, CONFIG)
  if config is None:
    return _guessed(folder, path, layout, measured)
  if "architecture" in config or "pretrained_cfg" in config:
    return _of_timm(config, where, measured)
  return _of_hugging_face(config, folder, where, measured)


def _of_hugging_face(config: dict, folder: str, where: str, measured: VisionTransformer) -> Settings:
  kind = config.get("model_type")
  checks.choice(f"model_type in {where!r}", kind, tuple(TYPES))
  assert isinstance(kind, str)
  num_heads, activation, epsilon, processor = TYPES[kind]
  said = check_object(config.get("vision_config") or {}, "vision_config", where) if kind == "siglip" else config
  measured = measured._replace(pixels=_pixels(said, measured))
  sizes = {"hidden_size": measured.size.width, "num_hidden_layers": measured.size.num_layers}
  check_said(said, sizes | {"patch_size": measured.patch, "image_size": measured.pixels}, "", where)
  for name, wanted in {"qkv_bias": True, "vision_use_head": True, "num_channels": 3}.items():
    if said.get(name, wanted) != wanted:
      raise ValueError(f"expected {name} {wanted} in {where!r}, got {said[name]!r}")
  num_heads, details = heads_and_details(said, (num_heads, activation, epsilon), measured.details, "", where)
  preprocessing, doubt = processor_of(folder), ""
  if preprocessing is None:
    preprocessing = of_hugging_face({"image_processor_type": processor}, where)
    if kind not in ANY_SIZE:
      side = None if preprocessing.side is None else measured.pixels * preprocessing.side // preprocessing.pixels
      preprocessing = preprocessing._replace(pixels=measured.pixels, side=side)
    doubt = f"{where!r}: found no preprocessor_config.json, assuming that of {processor}: {preprocessing}"
  antialias = kind == "dinov2_with_registers"
  return Settings(num_heads, details, preprocessing, measured.pixels, antialias, kind in ANY_SIZE, doubt)


def heads_and_details(
  said: dict, defaults: tuple[int, str, float], details: Details, prefix: str, where: str
) -> tuple[int, Details]:
  """Reads the number of heads, the activation and the norms' epsilon from a section of a `config.json`.

  Args:
    said: Content of the section.
    defaults: Hugging Face's defaults of the three.
    details: Details from the arrays.
    prefix: Name of the section with a dot, or nothing, for messages.
    where: File name, for messages.

  Raises:
    ValueError: if a setting is invalid.
  """
  num_heads, activation, epsilon = defaults
  num_heads, activation = said.get("num_attention_heads", num_heads), said.get("hidden_act", activation)
  epsilon = said.get("layer_norm_eps", epsilon)
  checks.count(f"{prefix}num_attention_heads in {where!r}", num_heads)
  checks.choice(f"{prefix}hidden_act in {where!r}", activation, tuple(ACTIVATIONS))
  checks.positive(f"{prefix}layer_norm_eps in {where!r}", epsilon)
  return num_heads, details._replace(activation=ACTIVATIONS[activation], epsilon=float(epsilon))


def _pixels(said: dict, measured: VisionTransformer) -> int:
  """Returns the configured side of an image if it has as many whole patches, e.g. 384 pixels in patches of 14."""
  pixels = said.get("image_size", measured.pixels)
  fits = type(pixels) is int and pixels // measured.patch * measured.patch == measured.pixels
  return pixels if fits else measured.pixels


def _of_timm(config: dict, where: str, measured: VisionTransformer) -> Settings:
  name = str(config.get("architecture", ""))
  said: dict[str, Any] = check_object(config.get("pretrained_cfg", config), "pretrained_cfg", where)
  details = _activated(measured, "quickgelu" in name, "siglip" in name)
  return Settings(_heads(measured, where), details, of_timm(said, measured.pixels, where), measured.pixels)


def _guessed(folder: str, path: str, layout: str, measured: VisionTransformer) -> Settings:
  details = _activated(measured, False, measured.pool == "attention")
  preprocessing, num_heads = processor_of(folder), _heads(measured, path)
  if preprocessing is None:
    kind = "BitImageProcessor" if details.layer_scale is not None else "ViTImageProcessor"
    kind = "SiglipImageProcessor" if measured.pool == "attention" else kind
    preprocessing = of_hugging_face({"image_processor_type": kind}, path)
    preprocessing = preprocessing._replace(pixels=measured.pixels, side=None)
  return Settings(
    num_heads,
    details,
    preprocessing,
    measured.pixels,
    antialias=layout == "timm",
    any_size=True,
    said=f"found no {CONFIG} next to {path!r}: assuming {num_heads} attention heads, {details.activation}, norms' "
    f"epsilon {details.epsilon} and {preprocessing}",
  )


def _activated(measured: VisionTransformer, quick: bool, tanh: bool) -> Details:
  return measured.details._replace(activation="quick_gelu" if quick else "tanh_gelu" if tanh else "gelu")


def _heads(measured: VisionTransformer, where: str) -> int:
  return heads_of(measured.size.width, SIGLIP_HEADS if measured.pool == "attention" else HEADS, where)


def heads_of(width: int, known: Mapping[int, int], where: str) -> int:
  """Returns the number of attention heads that published models of a width have.

  Raises:
    ValueError: if the width does not tell.
  """
  if width not in known and width % HEAD:
    raise ValueError(f"expected the number of attention heads in {where!r}, which a width of {width} does not tell")
  return known.get(width, width // HEAD)
