"""Conversion of a CLIP's published arrays to params, with a check of each array."""

import numpy as np

from metajax.networks.checkpoints import names
from metajax.networks.checkpoints.clip_resnet_names import POOL_OUTPUTS, POSITIONS, STEM, blocks_of, is_clip_resnet
from metajax.networks.checkpoints.table import find, variables_of
from metajax.networks.linen.clip_resnet import STRIDE, ClipResNet
from metajax.networks.linen.clip_towers import Towers, attention_width
from metajax.networks.linen.transformer import Size
from metajax.types import Pair

MODEL, RESIDUAL = "a CLIP of vision transformers", "a CLIP with a residual network"


def measured_of(tensors: dict, called: dict, path: str) -> Towers:
  """Returns the sizes that the arrays' shapes determine; the numbers of heads are not among them, and are 0.

  Raises:
    ValueError: if an array is missing or has another number of axes; the message names it.
  """

  def sizes(name, dimensions):
    return _get(tensors, called, name, (None,) * dimensions, path).shape

  def layers_of(tower):
    return len({n.split(".")[3] for n in tensors if n.startswith(f"{tower}_model.encoder.layers.")})

  def size_of(tower, width):
    inner = sizes(f"{tower}_model.encoder.layers.0.mlp.fc1.bias", 1)[0]
    return Size(width, layers_of(tower), 0, None if inner == 4 * width else inner)

  if is_clip_resnet(tensors):
    for stage in range(1, 5):
      sizes(f"visual.layer{stage}.0.conv1.weight", 4)  # so that a missing stage is named
    places, num_outputs, patch = sizes(POSITIONS, 2)[0], sizes(POOL_OUTPUTS, 2)[0], STRIDE
    image = ClipResNet(blocks_of(tensors), sizes(STEM, 4)[0], 0)
  else:
    places, width = sizes(names.IMAGE_POSITIONS, 2)
    patch, num_outputs = sizes(names.PATCHES, 4)[-1], sizes(names.PROJECTION, 2)[0]
    image = size_of("vision", width)
  vocab_size, text_width = sizes(names.TOKENS, 2)
  max_length, text = sizes(names.TEXT_POSITIONS, 2)[0], size_of("text", text_width)
  if min(places - 1, image.width, patch, num_outputs, vocab_size, text_width, max_length) < 1:
    raise ValueError(f"expected the arrays of {_model(tensors)} in {path!r}, got an empty one")
  return Towers(image, patch, round((places - 1) ** 0.5) * patch, text, num_outputs, vocab_size, max_length)


def with_heads(measured: Towers, num_heads: Pair, path: str) -> Towers:
  """Sets the towers' numbers of heads.

  Raises:
    ValueError: if a width is not divisible by its number of heads, or a tower has no layers.
  """
  for name, size, number in zip(("image", "text"), (measured.image, measured.text), num_heads, strict=True):
    width = attention_width(size)
    layers, hidden = (size.num_layers, size.mlp_width) if isinstance(size, Size) else (min(size.blocks), width)
    if min(layers, number, hidden) < 1 or width % number:
      given = f"{number} heads in {layers} layers of width {width}"
      raise ValueError(f"expected a width divisible by the heads in the {name} tower of {path!r}, got {given}")
  image, text = measured.image._replace(num_heads=num_heads.first), measured.text._replace(num_heads=num_heads.second)
  return measured._replace(image=image, text=text)


def variables_of_clip(
  tensors: dict, called: dict, towers: Towers, scale: tuple[int, ...], path: str
) -> tuple[dict, dict]:
  """Converts arrays by Hugging Face's names to our params and state, and checks each, as `table.variables_of`.

  Args:
    tensors, called, path: As for `table.find`.
    towers: Sizes of the towers.
    scale: Shape of `logit_scale`, of one value.
  """
  if names.SCALE in tensors:
    tensors = tensors | {names.SCALE: _get(tensors, called, names.SCALE, scale, path).reshape(())}
  params = variables_of(tensors, called, names.arrays_of(towers), path, _model(tensors), names.TURNED)
  return params, {"image": {}, "text": {}} | params.pop("state", {})


def _model(tensors) -> str:
  return RESIDUAL if is_clip_resnet(tensors) else MODEL


def _get(tensors, called, name, shape, path) -> np.ndarray:
  return find(tensors, called, name, shape, path, _model(tensors), names.TURNED)
