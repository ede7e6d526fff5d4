"""Names of a vision transformer's arrays: those of transformers, timm and DINOv2's repository, and ours."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from metajax.networks.checkpoints.table import Entry, dense_entries, norm_entries
from metajax.networks.linen.transformer import Details, Size
from metajax.networks.linen.vision_transformer import Pool

# Patterns of published names, and our names; a file has the names of one layout.
LAYOUTS = {
  "timm": (
    (r"patch_embed\.proj\.", "patches."),
    (r"cls_token", "class_token"),
    (r"dist_token", "distillation_token"),
    (r"(reg_token|register_tokens)", "registers"),
    (r"pos_embed", "positions"),
    (r"norm_pre\.", "first_norm."),
    (r"blocks\.(\d+)\.norm1\.", r"layer_\1.before_attention."),
    (r"blocks\.(\d+)\.norm2\.", r"layer_\1.before_perceptron."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"layer_\1.attention.query+key+value."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"layer_\1.attention.out."),
    (r"blocks\.(\d+)\.ls1\.gamma", r"layer_\1.attention_scale"),
    (r"blocks\.(\d+)\.ls2\.gamma", r"layer_\1.perceptron_scale"),
    (r"blocks\.(\d+)\.mlp\.(fc1|w12)\.", r"layer_\1.hidden."),
    (r"blocks\.(\d+)\.mlp\.(fc2|w3)\.", r"layer_\1.outputs."),
    (r"attn_pool\.latent", "pool.query"),
    (r"attn_pool\.q\.", "pool.attention.query."),
    (r"attn_pool\.kv\.", "pool.attention.key+value."),
    (r"attn_pool\.proj\.", "pool.attention.out."),
    (r"attn_pool\.norm\.", "pool.before_perceptron."),
    (r"attn_pool\.mlp\.fc1\.", "pool.hidden."),
    (r"attn_pool\.mlp\.fc2\.", "pool.outputs."),
    (r"norm\.", "norm."),
  ),
  "transformers": (
    (r"embeddings\.patch_embeddings\.projection\.", "patches."),
    (r"embeddings\.cls_token", "class_token"),
    (r"embeddings\.distillation_token", "distillation_token"),
    (r"embeddings\.register_tokens", "registers"),
    (r"embeddings\.position_embeddings", "positions"),
    (r"encoder\.layer\.(\d+)\.(layernorm_before|norm1)\.", r"layer_\1.before_attention."),
    (r"encoder\.layer\.(\d+)\.(layernorm_after|norm2)\.", r"layer_\1.before_perceptron."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.", r"layer_\1.attention.\2."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"layer_\1.attention.out."),
    (r"encoder\.layer\.(\d+)\.layer_scale1\.lambda1", r"layer_\1.attention_scale"),
    (r"encoder\.layer\.(\d+)\.layer_scale2\.lambda1", r"layer_\1.perceptron_scale"),
    (r"encoder\.layer\.(\d+)\.(intermediate\.dense|mlp\.fc1|mlp\.weights_in)\.", r"layer_\1.hidden."),
    (r"encoder\.layer\.(\d+)\.(output\.dense|mlp\.fc2|mlp\.weights_out)\.", r"layer_\1.outputs."),
    (r"layernorm\.", "norm."),
  ),
  "SigLIP": (
    (r"embeddings\.patch_embedding\.", "patches."),
    (r"embeddings\.position_embedding\.weight", "positions"),
    (r"encoder\.layers\.(\d+)\.layer_norm1\.", r"layer_\1.before_attention."),
    (r"encoder\.layers\.(\d+)\.layer_norm2\.", r"layer_\1.before_perceptron."),
    (r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.", r"layer_\1.attention.query."),
    (r"encoder\.layers\.(\d+)\.self_attn\.k_proj\.", r"layer_\1.attention.key."),
    (r"encoder\.layers\.(\d+)\.self_attn\.v_proj\.", r"layer_\1.attention.value."),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"layer_\1.attention.out."),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1\.", r"layer_\1.hidden."),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2\.", r"layer_\1.outputs."),
    (r"head\.probe", "pool.query"),
    (r"head\.attention\.in_proj_", "pool.attention.query+key+value."),
    (r"head\.attention\.out_proj\.", "pool.attention.out."),
    (r"head\.layernorm\.", "pool.before_perceptron."),
    (r"head\.mlp\.fc1\.", "pool.hidden."),
    (r"head\.mlp\.fc2\.", "pool.outputs."),
    (r"post_layernorm\.", "norm."),
  ),
}
FIRST = {"timm": "patch_embed.proj.weight", "transformers": "embeddings.patch_embeddings.projection.weight"}
FIRST |= {"SigLIP": "embeddings.patch_embedding.weight"}
PREFIX = r"(vit|deit|dinov2|dinov2_with_registers|vision_model)\."
TRUNK = r"visual\.trunk\."  # of timm's image towers in open_clip
# Arrays without use for features: classifiers, transformers' pooler of tanh, the token of masked patches, the text.
UNUSED = r"(head|head_dist|classifier|cls_classifier|distillation_classifier|pooler\.dense)\.(weight|bias)"
UNUSED += r"|(embeddings\.)?mask_token|text_model\..*|logit_scale|logit_bias|embeddings\.position_ids"


class VisionTransformer(NamedTuple):
  """The architecture of a vision transformer.

  Attributes:
    size, patch, pool, details: As for `vision_transformer`.
    pixels: Side of an image, in pixels.
  """

  size: Size
  patch: int
  pool: Pool
  details: Details
  pixels: int

  @property
  def places(self) -> int:
    """Number of positions, with that of the class token."""
    return (self.pixels // self.patch) ** 2 + (self.pool == "class")


def layout_of(tensors: Mapping[str, np.ndarray]) -> str | None:
  """Returns the layout of a vision transformer's arrays; None if they are no vision transformer's."""
  names = {re.sub(f"^{PREFIX}", "", name) for name in tensors}
  if "embeddings.class_embedding" in names:  # a CLIP
    return None
  return next((layout for layout, first in FIRST.items() if first in names), None)


def by_our_names(
  tensors: Mapping[str, np.ndarray], layout: str, path: str
) -> tuple[dict[str, np.ndarray], dict[str, str], tuple[str, ...]]:
  """Renames arrays to ours, with "weight" and "bias" as in the file.

  Args:
    tensors: Arrays by their names in the file.
    layout: Layout of the names.
    path: Path of the file, for messages.

  Returns:
    The arrays; the name in the file per name of ours; and the names in the file that features do not need.

  Raises:
    ValueError: if an array is unknown, or appears twice, or cannot be divided into queries, keys and values.
  """
  return renamed(tensors, LAYOUTS[layout], f"{PREFIX}|{TRUNK}", UNUSED, path, "a vision transformer")


def renamed(
  tensors: Mapping[str, np.ndarray],
  layout: Iterable[tuple[str, str]],
  prefix: str,
  unneeded: str,
  path: str,
  model: str,
) -> tuple[dict[str, np.ndarray], dict[str, str], tuple[str, ...]]:
  """Renames the arrays of a transformer by the patterns of a layout.

  Args:
    tensors, path: As for `by_our_names`.
    layout: Patterns of published names, and our names.
    prefix: Pattern of what names may begin with.
    unneeded: Pattern of the names, without prefix, of arrays that are not needed.
    model: The expected network, for messages.

  Returns:
    As `by_our_names`.

  Raises:
    ValueError: as `by_our_names`.
  """
  found, called, unused = {}, {}, []
  for original, x in tensors.items():
    name = re.sub(f"^({prefix})", "", original)
    if re.fullmatch(unneeded, name):
      unused.append(original)
      continue
    ours = _renamed(name, layout)
    if ours is None:
      raise ValueError(f"expected the arrays of {model}, got {original!r} too in {path!r}")
    for part, each in _parts(ours, x, original, path):
      if part in found:
        raise ValueError(f"expected each array once in {path!r}, got {called[part]!r} and {original!r}")
      found[part], called[part] = each, original
  return found, called, tuple(sorted(unused))


def _renamed(name: str, layout: Iterable[tuple[str, str]]) -> str | None:
  for pattern, ours in layout:
    if match := re.match(pattern, name):
      return match.expand(ours) + name[match.end() :]
  return None


def _parts(name: str, x: np.ndarray, original: str, path: str) -> Iterator[tuple[str, np.ndarray]]:
  """Yields an array, or those that it joins along its first axis: queries, keys and values."""
  joined = re.search(r"\w+(\+\w+)+", name)
  if joined is None:
    yield name, x
    return
  parts = joined[0].split("+")
  if not x.ndim or x.shape[0] % len(parts):
    raise ValueError(f"expected {original!r} of {len(parts)} equal parts in {path!r}, got shape {list(x.shape)}")
  for part, each in zip(parts, np.split(x, len(parts)), strict=True):
    yield name.replace(joined[0], part), each


def table(architecture: VisionTransformer) -> Iterator[Entry]:
  """Yields every array of a vision transformer, by our names with "weight" and "bias"."""
  size, patch, pool, details, _ = architecture
  width = size.width
  yield Entry("patches.weight", (width, 3, patch, patch), "params.patches.kernel", "filters")
  if details.patch_bias:
    yield Entry("patches.bias", (width,), "params.patches.bias")
  yield Entry("positions", (architecture.places, width), "params.positions")
  if pool == "class":
    yield Entry("class_token", (width,), "params.class_token")
  if details.registers:
    yield Entry("registers", (details.registers, width), "params.registers")
  for name in ("first_norm", "norm") if details.first_norm else ("norm",):
    yield from norm_entries(name, f"params.{name}", width)
  for i in range(size.num_layers):
    yield from layer_entries(f"layer_{i}", size, details)
  if pool == "attention":
    yield Entry("pool.query", (width,), "params.pool.query")
    yield from _attention("pool", size)
    yield from _perceptron("pool", size, details)


def layer_entries(name: str, size: Size, details: Details) -> Iterator[Entry]:
  """Yields the arrays of a layer, by our names with "weight" and "bias"."""
  yield from norm_entries(f"{name}.before_attention", f"params.{name}.before_attention", size.width)
  yield from _attention(name, size)
  yield from _perceptron(name, size, details)
  for scale in ("attention_scale", "perceptron_scale") if details.layer_scale is not None else ():
    yield Entry(f"{name}.{scale}", (size.width,), f"params.{name}.{scale}")


def _attention(name: str, size: Size) -> Iterator[Entry]:
  for part in ("query", "key", "value", "out"):
    kind = "out_of_heads" if part == "out" else "into_heads"
    theirs, ours = f"{name}.attention.{part}", f"params.{name}.attention.{part}"
    yield from dense_entries(theirs, ours, size.width, size.width, kind, size.num_heads)


def _perceptron(name: str, size: Size, details: Details) -> Iterator[Entry]:
  hidden = size.mlp_width
  yield from norm_entries(f"{name}.before_perceptron", f"params.{name}.before_perceptron", size.width)
  yield from dense_entries(f"{name}.hidden", f"params.{name}.hidden", hidden * (1 + details.gated), size.width)
  yield from dense_entries(f"{name}.outputs", f"params.{name}.outputs", size.width, hidden)
