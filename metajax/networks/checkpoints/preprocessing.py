"""Parsers of image preprocessing: Hugging Face's `preprocessor_config.json` and open_clip's `preprocess_cfg`."""

from typing import Any, Literal

from metajax import checks
from metajax.types import Preprocessing

Resize = Literal["shortest", "squash"]
INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # indexed by Pillow's numbers
EIGHT_BITS = 255
HALF = (0.5, 0.5, 0.5)
IMAGENET, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SHARED: dict[str, Any] = {
  "do_resize": True,
  "do_rescale": True,
  "rescale_factor": 1 / EIGHT_BITS,
  "do_normalize": True,
}
_SHARED |= {"do_center_crop": False, "crop_size": None, "do_pad": False}
_OPENAI = {"image_mean": Preprocessing(1).mean, "image_std": Preprocessing(1).deviation}
_SQUARE = {"size": {"height": 224, "width": 224}, "image_mean": HALF, "image_std": HALF}
PROCESSORS: dict[str, dict[str, Any]] = {  # Hugging Face's processors and their defaults
  "CLIPImageProcessor": _SHARED
  | _OPENAI
  | {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224, "resample": 3},
  "BitImageProcessor": _SHARED
  | _OPENAI
  | {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224, "resample": 3}
  | {"image_mean": IMAGENET, "image_std": IMAGENET_DEVIATION},
  "DeiTImageProcessor": _SHARED
  | _SQUARE
  | {"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": 224, "resample": 3},
  "ConvNextImageProcessor": _SHARED
  | {"size": {"shortest_edge": 384}, "crop_pct": 224 / 256, "resample": 2}
  | {"image_mean": IMAGENET, "image_std": IMAGENET_DEVIATION},
  "SiglipImageProcessor": _SHARED | _SQUARE | {"resample": 3},
  "ViTImageProcessor": _SHARED | _SQUARE | {"resample": 2},
}


def of_hugging_face(config: dict, where: str) -> Preprocessing:
  """Reads a `preprocessor_config.json`, with Hugging Face's defaults.

  Raises:
    ValueError: if a setting is invalid or not supported; the message names it.
  """
  kind = config.get("image_processor_type") or config.get("feature_extractor_type") or "CLIPImageProcessor"
  checks.text(f"image_processor_type in {where!r}", kind)
  kind = kind.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
  checks.choice(f"image_processor_type in {where!r}", kind, tuple(PROCESSORS))
  said = PROCESSORS[kind] | {name: value for name, value in config.items() if value is not None}
  for name in ("do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_pad"):
    checks.flag(f"{name} in {where!r}", said[name])
  if said["do_pad"] or not said["do_resize"]:
    raise ValueError(f"expected do_resize and no do_pad in {where!r}, got {said['do_resize']} and {said['do_pad']}")
  pixels, resize, side = (_of_conv_next if kind == "ConvNextImageProcessor" else _of_square)(said, kind, where)
  checks.count(f"resample in {where!r}", said["resample"], 0, len(INTERPOLATIONS) - 1)
  mean, deviation = _normal(said, where)
  return Preprocessing(pixels, resize, side, INTERPOLATIONS[said["resample"]], mean, deviation)


def _of_square(said: dict, kind: str, where: str) -> tuple[int, Resize, int | None]:
  """Returns the size, the kind of resizing, and its side if that is another."""
  resize, side = _size(said["size"], kind == "ViTImageProcessor", where)
  if resize == "shortest" and not said["do_center_crop"]:
    raise ValueError(f"expected images that become square in {where!r}, got a shortest_edge and no do_center_crop")
  pixels = _square(said["crop_size"], "crop_size", where) if said["do_center_crop"] else side
  return pixels, resize, None if side == pixels else side


def _of_conv_next(said: dict, kind: str, where: str) -> tuple[int, Resize, int | None]:
  """Returns the same: below 384 pixels a larger image is cropped to its center, from there on it is squashed."""
  _, pixels = _size(said["size"], False, where)
  checks.in_range(f"crop_pct in {where!r}", said["crop_pct"], 0.01, 1)
  return (pixels, "shortest", int(pixels / said["crop_pct"])) if pixels < 384 else (pixels, "squash", None)


def of_timm(config: dict, pixels: int, where: str) -> Preprocessing:
  """Reads timm's `pretrained_cfg`, with its defaults; the size is the network's.

  Raises:
    ValueError: if a setting is invalid or not supported; the message names it.
  """
  said: dict[str, Any] = {"crop_pct": 0.875, "crop_mode": "center", "interpolation": "bilinear"}
  said |= {"mean": IMAGENET, "std": IMAGENET_DEVIATION} | {k: v for k, v in config.items() if v is not None}
  checks.in_range(f"crop_pct in {where!r}", said["crop_pct"], 0.01, 1)
  checks.choice(f"crop_mode in {where!r}", said["crop_mode"], ("center", "squash"))
  checks.choice(f"interpolation in {where!r}", said["interpolation"], INTERPOLATIONS)
  mean = _three(said["mean"], f"mean in {where!r}")
  deviation = _three(said["std"], f"std in {where!r}", positive=True)
  side, resize = int(pixels / said["crop_pct"]), "squash" if said["crop_mode"] == "squash" else "shortest"
  side = None if side == pixels else side
  return Preprocessing(pixels, resize, side, said["interpolation"], mean, deviation, 0, "even")


def of_open_clip(config: dict, pixels: int, where: str) -> Preprocessing:
  """Reads open_clip's `preprocess_cfg`, with its defaults; the size is the network's."""
  known = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
  said = {name: value for name, value in config.items() if value is not None}
  if unknown := sorted(set(said) - known):
    raise ValueError(f"expected preprocess_cfg of {', '.join(sorted(known))} in {where!r}, got {unknown[0]!r}")

  def name(key):
    return f"preprocess_cfg.{key} in {where!r}"

  resize, interpolation = said.get("resize_mode", "shortest"), said.get("interpolation", "bicubic")
  checks.choice(name("mode"), said.get("mode", "RGB"), ("RGB",))
  checks.choice(name("resize_mode"), resize, ("shortest", "longest", "squash"))
  checks.choice(name("interpolation"), interpolation, ("bicubic", "bilinear", "random"))
  checks.count(name("fill_color"), said.get("fill_color", 0), 0, EIGHT_BITS)
  mean = _three(said.get("mean", _OPENAI["image_mean"]), name("mean"))
  deviation = _three(said.get("std", _OPENAI["image_std"]), name("std"), positive=True)
  interpolation = "bicubic" if interpolation == "random" else interpolation  # "random" applies only to training
  return Preprocessing(pixels, resize, None, interpolation, mean, deviation, said.get("fill_color", 0), "even")


def for_hugging_face(preprocessing: Preprocessing) -> dict:
  """Returns the `preprocessor_config.json` of Hugging Face for a preprocessing.

  Raises:
    ValueError: if Hugging Face's processors do not support it.
  """
  if preprocessing.resize == "longest":
    raise ValueError("expected a preprocessing with resize 'shortest' or 'squash', the only ones that can be written")
  side = preprocessing.side or preprocessing.pixels
  return {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": side} if preprocessing.resize == "shortest" else {"height": side, "width": side},
    "resample": INTERPOLATIONS.index(preprocessing.interpolation),
    "do_center_crop": True,
    "crop_size": {"height": preprocessing.pixels, "width": preprocessing.pixels},
    "do_rescale": True,
    "rescale_factor": 1 / EIGHT_BITS,
    "do_normalize": True,
    "image_mean": list(preprocessing.mean),
    "image_std": list(preprocessing.deviation),
    "do_convert_rgb": True,
  }


def at_size(preprocessing: Preprocessing, pixels: int) -> Preprocessing:
  """Scales a preprocessing to another image size; the cropped fraction stays the same."""
  side = None if preprocessing.side is None else round(preprocessing.side * pixels / preprocessing.pixels)
  return preprocessing._replace(pixels=pixels, side=side)


def _size(size: Any, square: bool, where) -> tuple[Resize, int]:
  """Reads the kind of resizing and its side."""
  if isinstance(size, dict) and set(size) == {"shortest_edge"}:
    checks.count(f"size.shortest_edge in {where!r}", size["shortest_edge"])
    return "shortest", size["shortest_edge"]
  if isinstance(size, int) and not square:
    checks.count(f"size in {where!r}", size)
    return "shortest", size
  return "squash", _square(size, "size", where)


def _square(size: Any, name: str, where) -> int:
  """Reads the side of a square size."""
  sides = size if isinstance(size, list) else [size, size]
  if isinstance(size, dict):
    sides = [size["height"], size["width"]] if set(size) == {"height", "width"} else []
  if len(sides) != 2 or sides[0] != sides[1]:
    raise ValueError(f"expected {name} of a square in {where!r}, as a number or height and width, got {size!r}")
  checks.count(f"{name} in {where!r}", sides[0])
  return sides[0]


def _normal(said: dict, where) -> tuple[tuple, tuple]:
  """Reads mean and standard deviation, for values in [0, 1]."""
  checks.positive(f"rescale_factor in {where!r}", said["rescale_factor"])
  most = EIGHT_BITS * (said["rescale_factor"] if said["do_rescale"] else 1)  # the value of white
  most = 1.0 if abs(most - 1) < 1e-6 else most
  mean, deviation = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
  if said["do_normalize"]:
    mean = _three(said["image_mean"], f"image_mean in {where!r}")
    deviation = _three(said["image_std"], f"image_std in {where!r}", positive=True)
  return tuple(x / most for x in mean), tuple(x / most for x in deviation)


def _three(values: Any, name: str, positive: bool = False) -> tuple[float, ...]:
  """Reads values of three color channels; a single number applies to all."""
  values = values if isinstance(values, list | tuple) else [values] * 3
  if len(values) != 3:
    raise ValueError(f"expected {name} of 3 colors, got {values!r}")
  for value in values:
    if positive:
      checks.positive(name, value)
    else:
      checks.in_range(name, value, -1e6, 1e6)
  return tuple(map(float, values))
