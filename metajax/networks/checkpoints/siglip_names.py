"""Names of a SigLIP's arrays: those of transformers and open_clip, and ours."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.networks.checkpoints import vit_names
from metajax.networks.checkpoints.table import Entry, dense_entries, find, norm_entries
from metajax.networks.linen.transformer import SIGLIP, Details, Size

MODEL = "a SigLIP"
# Layout -> what the names of the image tower and of the text tower begin with, and the layout of the image tower.
TOWERS = {"transformers": ("vision_model.", "text_model.", "SigLIP"), "open_clip": ("visual.trunk.", "text.", "timm")}
LAYER = tuple(each for each in vit_names.LAYOUTS["SigLIP"] if each[0].startswith("encoder"))
# Patterns of published names of the text tower, and our names.
TEXT = {
  "transformers": (
    (r"embeddings\.token_embedding\.", "tokens."),
    (r"embeddings\.position_embedding\.weight", "positions"),
    *LAYER,
    (r"final_layer_norm\.", "norm."),
    (r"head\.", "head."),
  ),
  "open_clip": (
    (r"token_embedding\.", "tokens."),
    (r"positional_embedding", "positions"),
    (r"transformer\.resblocks\.(\d+)\.ln_1\.", r"layer_\1.before_attention."),
    (r"transformer\.resblocks\.(\d+)\.ln_2\.", r"layer_\1.before_perceptron."),
    (r"transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"layer_\1.attention.query+key+value."),
    (r"transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"layer_\1.attention.out."),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"layer_\1.hidden."),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"layer_\1.outputs."),
    (r"ln_final\.", "norm."),
    (r"text_projection\.", "head."),
  ),
}
SCALARS = (Entry("logit_scale", (), "log_scale"), Entry("logit_bias", (), "bias"))
NO_WEIGHTS = r"embeddings\.position_ids"  # of old files of transformers


class SiglipText(NamedTuple):
  """The architecture of a SigLIP's text tower.

  Attributes:
    vocab_size, size, max_length, num_outputs, details: As for `siglip_text`.
  """

  vocab_size: int
  size: Size
  max_length: int
  num_outputs: int
  details: Details = SIGLIP


class Arrays(NamedTuple):
  """The arrays of a SigLIP by their names in the file.

  Attributes:
    layout: Layout of the names, "transformers" or "open_clip".
    image, text, others: Arrays of the image tower, of the text tower, and all others.
  """

  layout: str
  image: dict[str, np.ndarray]
  text: dict[str, np.ndarray]
  others: dict[str, np.ndarray]


def divided(tensors: Mapping[str, np.ndarray], path: str) -> Arrays:
  """Divides the arrays of a file among the towers.

  Raises:
    ValueError: if there are none of one of them.
  """
  for layout, (image, text, _) in TOWERS.items():
    of = {prefix: {name: x for name, x in tensors.items() if name.startswith(prefix)} for prefix in (image, text)}
    if all(of.values()):
      others = {name: x for name, x in tensors.items() if not name.startswith((image, text))}
      return Arrays(layout, of[image], of[text], others)
  shown = ", ".join(map(repr, sorted(tensors)[: checks.SHOWN]))
  wanted = " or ".join(f"{image}* and {text}*" for image, text, _ in TOWERS.values())
  raise ValueError(f"expected the arrays of both towers of a SigLIP, {wanted}, in {path!r}, got {shown}")


def text_arrays(arrays: Arrays, path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Returns the text tower's arrays by our names with "weight" and "bias", and their names in the file.

  Raises:
    ValueError: if an array is unknown, or appears twice, or cannot be divided into queries, keys and values.
  """
  prefix = TOWERS[arrays.layout][1]
  return vit_names.renamed(arrays.text, TEXT[arrays.layout], prefix, NO_WEIGHTS, path, MODEL)[:2]


def measured_text(found: dict, called: dict, path: str) -> SiglipText:
  """Returns the sizes of a text tower that its arrays determine; the number of heads is not among them, and is 0.

  Raises:
    ValueError: if an array is missing or has another number of axes; the message names it.
  """

  def sizes(name, *shape):
    return find(found, called, name, shape, path, MODEL).shape

  vocab_size, width = sizes("tokens.weight", None, None)
  max_length, inner = sizes("positions", None, width)[0], sizes("layer_0.hidden.weight", None, width)[0]
  num_outputs = sizes("head.weight", None, width)[0]
  if min(vocab_size, width, max_length, inner, num_outputs) < 1:
    raise ValueError(f"expected the arrays of {MODEL} in {path!r}, got an empty one")
  layers = {name.split(".")[0] for name in found if name.startswith("layer_")}
  size = Size(width, len(layers), 0, None if inner == 4 * width else inner)
  return SiglipText(vocab_size, size, max_length, num_outputs)


def text_table(text: SiglipText) -> Iterator[Entry]:
  """Yields every array of a text tower, by our names with "weight" and "bias"."""
  width = text.size.width
  yield Entry("tokens.weight", (text.vocab_size, width), "params.tokens.embedding")
  yield Entry("positions", (text.max_length, width), "params.positions")
  for i in range(text.size.num_layers):
    yield from vit_names.layer_entries(f"layer_{i}", text.size, text.details)
  yield from norm_entries("norm", "params.norm", width)
  yield from dense_entries("head", "params.head", text.num_outputs, width)
