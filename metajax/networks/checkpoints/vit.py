"""Published vision transformers: their sizes and details from the arrays, the rest from a configuration."""

import os
from typing import Any, NamedTuple

import numpy as np

from metajax import checks
from metajax.networks.checkpoints import vit_names
from metajax.networks.checkpoints.files import read_config
from metajax.networks.checkpoints.hugging_face import ACTIVATIONS
from metajax.networks.checkpoints.preprocessing import of_hugging_face, of_timm
from metajax.networks.checkpoints.settings import CONFIG, HEAD, check_object, check_said, processor_of
from metajax.networks.checkpoints.table import find, variables_of
from metajax.networks.linen.transformer import VIT, Details, Size
from metajax.networks.linen.vision_transformer import resized_positions
from metajax.types import Preprocessing

MODEL = "a vision transformer"
TOKENS = ("class_token", "distillation_token", "registers", "positions", "pool.query")  # with leading axes of 1
HEADS = {192: 3, 1152: 16, 1280: 16, 1408: 16, 1664: 16}  # by width, where a head is not of 64 values
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


class VisionTransformer(NamedTuple):
  """The architecture of a vision transformer.

  Attributes:
    size, patch, pool, details: As for `vision_transformer`.
    pixels: Side of an image, in pixels.
  """

  size: Size
  patch: int
  pool: str
  details: Details
  pixels: int

  @property
  def places(self) -> int:
    """Number of positions, with that of the class token."""
    return (self.pixels // self.patch) ** 2 + (self.pool == "class")


class Settings(NamedTuple):
  """Settings that the arrays do not determine.

  Attributes:
    num_heads: Number of attention heads.
    details: Activation and norms.
    preprocessing: Preprocessing of the images, if known.
    antialias: How positions are interpolated, see `resized_positions`.
    any_size: Whether the positions may be of another size than the preprocessing's.
    said: A warning on guessed settings, if any.
  """

  num_heads: int
  details: Details
  preprocessing: Preprocessing | None
  antialias: bool = True
  any_size: bool = False
  said: str = ""


def read_vit(
  tensors: dict[str, np.ndarray], layout: str, folder: str, path: str, image_size: int | None
) -> tuple[VisionTransformer, dict, Preprocessing, tuple[str, ...], tuple[str, ...]]:
  """Reads a vision transformer.

  Args:
    tensors: Arrays by their names in the file.
    layout: Layout of the names, of `vit_names.layout_of`.
    folder: Folder of the configuration.
    path: Path of the file, for messages.
    image_size: Side of the images in pixels, by default that of the preprocessing.

  Returns:
    The architecture, the variables `{"params": ...}`, the preprocessing, the names of arrays without use, and warnings.

  Raises:
    ValueError: if the file does not hold exactly the arrays of a vision transformer, or a configuration is invalid or
      contradicts them; the message names the array or the setting.
  """
  found, called, unused = vit_names.by_our_names(tensors, layout, path)
  found = {name: _without_ones(name, x) for name, x in found.items()}
  _join_distillation(found, called, path)
  measured = _measured(found, called, path)
  settings = _settings(folder, path, layout, measured)
  said = (settings.said,) if settings.said else ()
  architecture = _with_settings(measured, settings, path)
  preprocessing = settings.preprocessing or Preprocessing(architecture.pixels)
  places = len(found["positions"])
  table = vit_names.table(architecture.size, architecture.patch, places, architecture.pool, architecture.details)
  variables = variables_of(found, called, table, path, MODEL)
  pixels = preprocessing.pixels if image_size is None else image_size
  if image_size is None and pixels != architecture.pixels and not settings.any_size:
    raise ValueError(
      f"expected images of {architecture.pixels} pixels, the size of the weights' positions, got a preprocessing to "
      f"{pixels}: image_size={pixels} interpolates the positions"
    )
  if pixels % architecture.patch:
    raise ValueError(f"expected an image_size that patches of {architecture.patch} pixels divide, got {pixels}")
  if pixels != architecture.pixels:
    first = architecture.pool == "class"
    params = variables["params"]
    resized = resized_positions(
      params["positions"], pixels // architecture.patch, first=first, antialias=settings.antialias
    )
    variables = {"params": params | {"positions": resized}}
  return architecture._replace(pixels=pixels), variables, preprocessing, unused, said


def _without_ones(name: str, x: np.ndarray) -> np.ndarray:
  """Drops the leading axes of 1 of tokens and positions."""
  kept = 1 if name in ("class_token", "distillation_token", "pool.query") else 2
  if name not in TOKENS or x.ndim < kept or set(x.shape[: x.ndim - kept]) - {1}:
    return x
  return x.reshape(x.shape[x.ndim - kept :])


def _join_distillation(found: dict, called: dict, path: str):
  """Makes the distillation token of DeiT (arXiv:2012.12877), with its position, a register."""
  token = found.pop("distillation_token", None)
  if token is None:
    return
  places = find(found, called, "positions", (None, None), path, MODEL)
  found["registers"] = (token + places[1])[None]
  found["positions"] = np.delete(places, 1, 0)
  called["registers"] = called["distillation_token"]


def _measured(found: dict, called: dict, path: str) -> VisionTransformer:
  """Returns the sizes that the arrays determine; the number of heads is not among them, and is 0."""

  def sizes(name, *shape):
    return find(found, called, name, shape, path, MODEL).shape

  width, _, patch, _ = sizes("patches.weight", None, 3, None, None)
  places = sizes("positions", None, width)[0]
  _, inner = sizes("layer_0.outputs.weight", width, None)
  rows = sizes("layer_0.hidden.weight", None, width)[0]
  pool = "class" if "class_token" in found else "attention" if "pool.query" in found else "mean"
  side = round(places**0.5)
  if pool == "class" and side**2 == places and places > 1:  # timm's with registers: none for the class token
    found["positions"] = np.concatenate([np.zeros((1, width), np.float32), found["positions"]])
    places += 1
  side = round((places - (pool == "class")) ** 0.5)
  if side**2 + (pool == "class") != places or min(width, patch, side, inner) < 1:
    raise ValueError(f"expected positions of a square of patches in {path!r}, got {places}")
  layers = {name.split(".")[0] for name in found if name.startswith("layer_")}
  details = VIT._replace(
    patch_bias="patches.bias" in found,
    first_norm="first_norm.weight" in found,
    hidden=None if inner == 4 * width else inner,
    gated=rows == 2 * inner,
    layer_scale=1.0 if "layer_0.attention_scale" in found else None,
    registers=sizes("registers", None, width)[0] if "registers" in found else 0,
  )
  return VisionTransformer(Size(width, len(layers), 0), patch, pool, details, side * patch)


def _with_settings(measured: VisionTransformer, settings: Settings, path: str) -> VisionTransformer:
  width, number = measured.size.width, settings.num_heads
  if number < 1 or width % number:
    raise ValueError(f"expected heads that divide the width of {width} in {path!r}, got {number}")
  return measured._replace(size=measured.size._replace(num_heads=number), details=settings.details)


def _settings(folder: str, path: str, layout: str, measured: VisionTransformer) -> Settings:
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
  said = check_object(config["vision_config"], "vision_config", where) if kind == "siglip" else config
  sizes = {"hidden_size": measured.size.width, "num_hidden_layers": measured.size.num_layers}
  check_said(said, sizes | {"patch_size": measured.patch, "image_size": measured.pixels}, "", where)
  for name, wanted in {"qkv_bias": True, "vision_use_head": True, "num_channels": 3}.items():
    if said.get(name, wanted) != wanted:
      raise ValueError(f"expected {name} {wanted} in {where!r}, got {said[name]!r}")
  num_heads, activation = said.get("num_attention_heads", num_heads), said.get("hidden_act", activation)
  epsilon = said.get("layer_norm_eps", epsilon)
  checks.count(f"num_attention_heads in {where!r}", num_heads)
  checks.choice(f"hidden_act in {where!r}", activation, tuple(ACTIVATIONS))
  checks.positive(f"layer_norm_eps in {where!r}", epsilon)
  details = measured.details._replace(activation=ACTIVATIONS[activation], epsilon=float(epsilon))
  preprocessing, doubt = processor_of(folder), ""
  if preprocessing is None:
    preprocessing = of_hugging_face({"image_processor_type": processor}, where)
    if kind not in ANY_SIZE:
      side = None if preprocessing.side is None else measured.pixels * preprocessing.side // preprocessing.pixels
      preprocessing = preprocessing._replace(pixels=measured.pixels, side=side)
    doubt = f"{where!r}: found no preprocessor_config.json, assuming that of {processor}: {preprocessing}"
  antialias = kind == "dinov2_with_registers"
  return Settings(num_heads, details, preprocessing, antialias, kind in ANY_SIZE, doubt)


def _of_timm(config: dict, where: str, measured: VisionTransformer) -> Settings:
  name = str(config.get("architecture", ""))
  said: dict[str, Any] = check_object(config.get("pretrained_cfg", config), "pretrained_cfg", where)
  details = _activated(measured, "quickgelu" in name, "siglip" in name)
  return Settings(_heads(measured, where), details, of_timm(said, measured.pixels, where))


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
    antialias=layout == "timm",
    any_size=True,
    said=f"found no {CONFIG} next to {path!r}: assuming {num_heads} attention heads, {details.activation}, norms' "
    f"epsilon {details.epsilon} and {preprocessing}",
  )


def _activated(measured: VisionTransformer, quick: bool, tanh: bool) -> Details:
  return measured.details._replace(activation="quick_gelu" if quick else "tanh_gelu" if tanh else "gelu")


def _heads(measured: VisionTransformer, where: str) -> int:
  width = measured.size.width
  if width not in HEADS and width % HEAD:
    raise ValueError(f"expected the number of attention heads in {where!r}, which a width of {width} does not tell")
  return HEADS.get(width, width // HEAD)
