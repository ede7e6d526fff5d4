"""Conversion of a CLIP's published arrays to params, with a check of each array."""

import numpy as np

from metajax.networks.checkpoints import names
from metajax.networks.checkpoints.table import find, variables_of
from metajax.networks.linen.clip_towers import Towers
from metajax.networks.linen.transformer import Size
from metajax.types import Pair

MODEL = "a CLIP of vision transformers"


def measured_of(tensors: dict, called: dict, path: str) -> Towers:
  """Returns the sizes that the arrays' shapes determine; the numbers of heads are not among them, and are 0.

  Raises:
    ValueError: if an array is missing or has another number of axes; the message names it.
  """

  def sizes(name, dimensions):
    return _get(tensors, called, name, (None,) * dimensions, path).shape

  places, width = sizes(names.IMAGE_POSITIONS, 2)
  patch, num_outputs = sizes(names.PATCHES, 4)[-1], sizes(names.PROJECTION, 2)[0]
  vocab_size, text_width = sizes(names.TOKENS, 2)
  max_length = sizes(names.TEXT_POSITIONS, 2)[0]
  if min(places - 1, width, patch, num_outputs, vocab_size, text_width, max_length) < 1:
    raise ValueError(f"expected the arrays of a CLIP of vision transformers in {path!r}, got an empty one")

  def layers_of(tower):
    return len({n.split(".")[3] for n in tensors if n.startswith(f"{tower}_model.encoder.layers.")})

  def size_of(tower, width):
    inner = sizes(f"{tower}_model.encoder.layers.0.mlp.fc1.bias", 1)[0]
    return Size(width, layers_of(tower), 0, None if inner == 4 * width else inner)

  image, text = size_of("vision", width), size_of("text", text_width)
  return Towers(image, patch, round((places - 1) ** 0.5) * patch, text, num_outputs, vocab_size, max_length)


def with_heads(measured: Towers, num_heads: Pair, path: str) -> Towers:
  """Sets the towers' numbers of heads.

  Raises:
    ValueError: if a width is not divisible by its number of heads, or a tower has no layers.
  """
  for name, size, number in zip(("image", "text"), (measured.image, measured.text), num_heads, strict=True):
    if min(size.num_layers, number, size.mlp_width) < 1 or size.width % number:
      given = f"{number} heads in {size.num_layers} layers of width {size.width}"
      raise ValueError(f"expected a width divisible by the heads in the {name} tower of {path!r}, got {given}")
  image, text = measured.image._replace(num_heads=num_heads.first), measured.text._replace(num_heads=num_heads.second)
  return measured._replace(image=image, text=text)


def params_of(tensors: dict, called: dict, towers: Towers, scale: tuple[int, ...], path: str) -> dict:
  """Converts arrays by Hugging Face's names to our params, and checks each of them, as `table.variables_of`.

  Args:
    tensors, called, path: As for `table.find`.
    towers: Sizes of the towers.
    scale: Shape of `logit_scale`, of one value.
  """
  if names.SCALE in tensors:
    tensors = tensors | {names.SCALE: _get(tensors, called, names.SCALE, scale, path).reshape(())}
  return variables_of(tensors, called, names.arrays_of(towers), path, MODEL, names.TURNED)


def _get(tensors, called, name, shape, path) -> np.ndarray:
  return find(tensors, called, name, shape, path, MODEL, names.TURNED)
