"""Conversion of a CLIP's published arrays to params, with a check of each array."""

import jax.numpy as jnp
import numpy as np

from metajax.networks.checkpoints import names
from metajax.networks.linen.clip_towers import Towers
from metajax.networks.linen.transformer import Size
from metajax.types import Pair


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

  image, text = Size(width, layers_of("vision"), 0), Size(text_width, layers_of("text"), 0)
  return Towers(image, patch, round((places - 1) ** 0.5) * patch, text, num_outputs, vocab_size, max_length)


def with_heads(measured: Towers, num_heads: Pair, path: str) -> Towers:
  """Sets the towers' numbers of heads.

  Raises:
    ValueError: if a width is not divisible by its number of heads, or a tower has no layers.
  """
  for name, size, number in zip(("image", "text"), (measured.image, measured.text), num_heads, strict=True):
    if min(size.num_layers, number) < 1 or size.width % number:
      given = f"{number} heads in {size.num_layers} layers of width {size.width}"
      raise ValueError(f"expected a width divisible by the heads in the {name} tower of {path!r}, got {given}")
  image, text = measured.image._replace(num_heads=num_heads.first), measured.text._replace(num_heads=num_heads.second)
  return measured._replace(image=image, text=text)


def params_of(tensors: dict, called: dict, towers: Towers, scale: tuple[int, ...], path: str) -> dict:
  """Converts arrays to our params, and checks each of them.

  Args:
    tensors: Arrays by Hugging Face's names.
    called: Name in the file per Hugging Face name.
    towers: Sizes of the towers.
    scale: Shape of `logit_scale`.
    path: Path of the file, for messages.

  Raises:
    ValueError: if an array is missing, has another shape, or is not floating or not finite; or if others are present.
  """
  tensors, params = dict(tensors), {}
  for theirs, shape, ours, kind, num_heads in names.arrays_of(towers):
    x = _get(tensors, called, theirs, scale if theirs == names.SCALE else shape, path).reshape(shape)
    if not np.isfinite(x).all():
      raise ValueError(f"expected {called[theirs]!r} to be finite in {path!r}, got NaN or an infinity")
    place = params
    *folders, name = ours.split(".")
    for folder in folders:
      place = place.setdefault(folder, {})
    place[name] = jnp.asarray(names.forward(x, kind, num_heads))
    del tensors[theirs]
  if tensors:
    more = called[min(tensors)]
    raise ValueError(f"expected the arrays of a CLIP of vision transformers, got {more!r} too in {path!r}")
  return params


def _get(tensors, called, name, shape, path) -> np.ndarray:
  """Returns an array and checks its shape, in which None matches any size."""
  if name not in tensors:
    raise ValueError(f"expected the arrays of a CLIP of vision transformers, got none named {name!r} in {path!r}")
  x, turned = tensors[name], called[name] in names.TURNED
  fits = x.ndim == len(shape) and all(size in (None, there) for size, there in zip(shape, x.shape, strict=True))
  if x.dtype != np.float32 or not fits:
    wanted, given = (sizes[::-1] if turned else sizes for sizes in (shape, x.shape))
    wanted = ", ".join("any" if size is None else str(size) for size in wanted)
    raise ValueError(f"expected {called[name]!r} to be floating [{wanted}] in {path!r}, got {x.dtype} {list(given)}")
  return x
