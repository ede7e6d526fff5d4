"""Names and shapes of CLIP's arrays: the publishers' and ours."""

from collections.abc import Iterator, Mapping

import numpy as np

from metajax.networks.checkpoints.clip_resnet_names import COUNTS, image_arrays_of, is_clip_resnet
from metajax.networks.checkpoints.table import Entry, dense_entries, norm_entries
from metajax.networks.linen.clip_towers import Towers
from metajax.networks.linen.transformer import Size

# Their name (Hugging Face's `CLIPModel`) -> our name and the kind of conversion, see `table.forward`.
LAYER = {
  "layer_norm1": ("before_attention", "norm"),
  "layer_norm2": ("before_perceptron", "norm"),
  "self_attn.q_proj": ("attention.query", "into_heads"),
  "self_attn.k_proj": ("attention.key", "into_heads"),
  "self_attn.v_proj": ("attention.value", "into_heads"),
  "self_attn.out_proj": ("attention.out", "out_of_heads"),
  "mlp.fc1": ("hidden", "matrix"),
  "mlp.fc2": ("outputs", "matrix"),
}
IMAGE_POSITIONS = "vision_model.embeddings.position_embedding.weight"
PATCHES = "vision_model.embeddings.patch_embedding.weight"
TEXT_POSITIONS = "text_model.embeddings.position_embedding.weight"
TOKENS = "text_model.embeddings.token_embedding.weight"
PROJECTION, TEXT_PROJECTION, SCALE = "visual_projection.weight", "text_projection.weight", "logit_scale"
IMAGE_REST = {
  "vision_model.embeddings.class_embedding": ("image.class_token", "same"),
  IMAGE_POSITIONS: ("image.positions", "same"),
  PATCHES: ("image.patches.kernel", "filters"),
  PROJECTION: ("image.projection.kernel", "matrix"),
}
TEXT_REST = {
  TOKENS: ("text.tokens.embedding", "same"),
  TEXT_POSITIONS: ("text.positions", "same"),
  TEXT_PROJECTION: ("text.projection.kernel", "matrix"),
  SCALE: ("log_scale", "same"),
}
IMAGE_NORMS = {"vision_model.pre_layrnorm": "image.first_norm", "vision_model.post_layernorm": "image.norm"}
TEXT_NORMS = {"text_model.final_layer_norm": "text.norm"}
# OpenAI's names, also used by open_clip -> Hugging Face's.
OPENAI = {
  "visual.class_embedding": "vision_model.embeddings.class_embedding",
  "visual.positional_embedding": IMAGE_POSITIONS,
  "visual.conv1.weight": PATCHES,
  "visual.ln_pre.": "vision_model.pre_layrnorm.",
  "visual.ln_post.": "vision_model.post_layernorm.",
  "visual.transformer.resblocks.": "vision_model.encoder.layers.",
  "token_embedding.weight": TOKENS,
  "positional_embedding": TEXT_POSITIONS,
  "ln_final.": "text_model.final_layer_norm.",
  "transformer.resblocks.": "text_model.encoder.layers.",
  ".ln_1.": ".layer_norm1.",
  ".ln_2.": ".layer_norm2.",
  ".attn.out_proj.": ".self_attn.out_proj.",
  ".mlp.c_fc.": ".mlp.fc1.",
  ".mlp.c_proj.": ".mlp.fc2.",
}
TURNED = {"visual.proj": PROJECTION, "text_projection": TEXT_PROJECTION}
NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # OpenAI's sizes, and a causal mask


def arrays_of(towers: Towers) -> Iterator[Entry]:
  """Yields every array of a CLIP with the given towers; the statistics of batch norm are placed under "state"."""
  if isinstance(towers.image, Size):
    width, places = towers.image.width, (towers.pixels // towers.patch) ** 2
    shapes = {
      "image.class_token": (width,),
      "image.positions": (1 + places, width),
      "image.patches.kernel": (width, 3, towers.patch, towers.patch),
      "image.projection.kernel": (towers.num_outputs, width),
    }
    yield from _tower("vision", "image", towers.image, shapes, IMAGE_REST, IMAGE_NORMS)
  else:
    yield from image_arrays_of(towers.image, towers)
  width = towers.text.width
  shapes = {
    "text.tokens.embedding": (towers.vocab_size, width),
    "text.positions": (towers.max_length, width),
    "text.projection.kernel": (towers.num_outputs, width),
    "log_scale": (),
  }
  yield from _tower("text", "text", towers.text, shapes, TEXT_REST, TEXT_NORMS)


def _tower(theirs, ours, size, shapes, rest, norms):
  for name, (place, kind) in rest.items():
    yield Entry(name, shapes[place], place, kind)
  for name, place in norms.items():
    yield from norm_entries(name, place, size.width)
  for i in range(size.num_layers):
    yield from _layer(f"{theirs}_model.encoder.layers.{i}", f"{ours}.layer_{i}", size)


def _layer(theirs, ours, size):
  width, hidden = size.width, size.mlp_width
  sides = {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}  # outputs and inputs
  for name, (to, kind) in LAYER.items():
    num_outputs, inputs = sides.get(name, (width, width))
    if kind == "norm":
      yield from norm_entries(f"{theirs}.{name}", f"{ours}.{to}", width)
      continue
    yield from dense_entries(f"{theirs}.{name}", f"{ours}.{to}", num_outputs, inputs, kind, size.num_heads)


def is_openai(tensors: Mapping[str, np.ndarray]) -> bool:
  """Returns True if the arrays have the names of OpenAI and open_clip."""
  return "visual.conv1.weight" in tensors or is_clip_resnet(tensors)


def by_hugging_face(tensors: Mapping[str, np.ndarray], path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Renames arrays to Hugging Face's names; returns them, and the name in the file per Hugging Face name.

  A residual network's arrays keep their names, as Hugging Face has none for them.

  Raises:
    ValueError: if a combined query, key and value array does not have three equal parts, or an array appears twice.
  """
  if not is_openai(tensors):
    found = {name: x for name, x in tensors.items() if not name.endswith("position_ids")}
    return found, {name: name for name in found}
  found, called, residual = {}, {}, is_clip_resnet(tensors)
  custom = "text.token_embedding.weight" in tensors  # open_clip's CustomTextCLIP prefixes its text tower
  for original, x in tensors.items():
    name = original.removeprefix("text.") if custom else original
    of_resnet = residual and name.startswith("visual.")
    if name in NO_WEIGHTS or (of_resnet and name.endswith(COUNTS)):
      continue
    if of_resnet:
      parts = {name: x}
    elif name in TURNED:
      parts = {TURNED[name]: x.T}
    elif ".attn.in_proj_" in name:
      parts = _three_of(_renamed(name), x, original, path)
    else:
      parts = {_renamed(name): x}
    if twice := parts.keys() & found.keys():
      raise ValueError(f"expected each array once in {path!r}, got {called[min(twice)]!r} and {original!r}")
    found |= parts
    called |= dict.fromkeys(parts, original)
  return found, called


def _renamed(name):
  for theirs, new in OPENAI.items():
    name = new + name.removeprefix(theirs) if name.startswith(theirs) else name
    name = name.replace(theirs, new) if theirs.startswith(".") else name
  return name


def _three_of(name, x, original, path):
  """Splits a combined array into the parts for queries, keys and values."""
  if not x.ndim or x.shape[0] % 3:
    raise ValueError(f"expected {original!r} of three equal parts in {path!r}, got shape {list(x.shape)}")
  layer, kind = name.split(".attn.in_proj_")
  return {f"{layer}.self_attn.{part}_proj.{kind}": each for part, each in zip("qkv", np.split(x, 3), strict=True)}
