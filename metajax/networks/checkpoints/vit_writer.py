"""A vision transformer by the names of transformers, with its configuration."""

import re
from typing import Any

from metajax.networks.checkpoints import vit_names
from metajax.networks.checkpoints.hugging_face import ACTIVATIONS
from metajax.networks.checkpoints.table import Entry
from metajax.networks.checkpoints.vit_names import VisionTransformer

# Our names -> transformers' of DINOv2, and where ViT has others.
NAMES = (
  (r"patches\.", "embeddings.patch_embeddings.projection."),
  (r"class_token", "embeddings.cls_token"),
  (r"registers", "embeddings.register_tokens"),
  (r"positions", "embeddings.position_embeddings"),
  (r"(layer_\d+)\.before_attention\.", r"\1.norm1."),
  (r"(layer_\d+)\.before_perceptron\.", r"\1.norm2."),
  (r"(layer_\d+)\.attention\.(query|key|value)\.", r"\1.attention.attention.\2."),
  (r"(layer_\d+)\.attention\.out\.", r"\1.attention.output.dense."),
  (r"(layer_\d+)\.attention_scale", r"\1.layer_scale1.lambda1"),
  (r"(layer_\d+)\.perceptron_scale", r"\1.layer_scale2.lambda1"),
  (r"(layer_\d+)\.hidden\.", r"\1.mlp.{into}."),
  (r"(layer_\d+)\.outputs\.", r"\1.mlp.{out}."),
  (r"norm\.", "layernorm."),
)
OF_VIT = {".norm1.": ".layernorm_before.", ".norm2.": ".layernorm_after."}
OF_VIT |= {".mlp.fc1.": ".intermediate.dense.", ".mlp.fc2.": ".output.dense."}


def table(architecture: VisionTransformer) -> list[Entry]:
  """Returns every array of a vision transformer, by transformers' names.

  Raises:
    ValueError: if transformers has no such model.
  """
  _check(architecture)
  return [_entry(entry, architecture) for entry in vit_names.table(architecture)]


def configuration(architecture: VisionTransformer) -> dict:
  """Returns transformers' configuration of a vision transformer."""
  size, patch, _, details, pixels = architecture
  kind = model_type(architecture)
  activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == details.activation)
  said: dict[str, Any] = {
    "architectures": [{"vit": "ViTModel", "dinov2": "Dinov2Model"}.get(kind, "Dinov2WithRegistersModel")],
    "model_type": kind,
    "hidden_size": size.width,
    "num_hidden_layers": size.num_layers,
    "num_attention_heads": size.num_heads,
    "hidden_act": activation,
    "layer_norm_eps": details.epsilon,
    "image_size": pixels,
    "patch_size": patch,
    "qkv_bias": True,
  }
  if kind == "vit":
    return said | {"intermediate_size": size.mlp_width}
  said |= {"mlp_ratio": 4, "use_swiglu_ffn": details.gated, "layerscale_value": details.layer_scale}
  return said | ({"num_register_tokens": details.registers} if details.registers else {})


def model_type(architecture: VisionTransformer) -> str:
  """Returns transformers' model type."""
  if architecture.details.registers:
    return "dinov2_with_registers"
  return "vit" if architecture.details.layer_scale is None else "dinov2"


def _check(architecture: VisionTransformer):
  size, _, pool, details, _ = architecture
  gated = (int(4 * size.width * 2 / 3) + 7) // 8 * 8  # DINOv2's
  fits = pool == "class" and details.patch_bias and not details.first_norm
  kind = model_type(architecture)
  fits &= not details.gated if kind == "vit" else size.mlp_width == (gated if details.gated else 4 * size.width)
  fits &= details.layer_scale is not None or not details.registers
  if not fits:
    raise ValueError(f"expected a ViT or a DINOv2, the models of transformers that can be written, got {architecture}")


def _entry(entry: Entry, architecture: VisionTransformer) -> Entry:
  gated = architecture.details.gated
  name = entry.theirs
  for pattern, theirs in NAMES:
    if match := re.match(pattern, name):
      name = match.expand(theirs) + name[match.end() :]
      break
  name = name.format(into="weights_in" if gated else "fc1", out="weights_out" if gated else "fc2")
  name = re.sub(r"^layer_(\d+)\.", r"encoder.layer.\1.", name)
  if model_type(architecture) == "vit":
    for old, new in OF_VIT.items():
      name = name.replace(old, new)
  if entry.theirs in ("positions", "registers"):
    return entry._replace(theirs=name, shape=(1, *entry.shape), kind="rows")
  return (
    entry._replace(theirs=name, shape=(1, 1, *entry.shape), kind="row")
    if entry.theirs == "class_token"
    else (entry._replace(theirs=name))
  )
