"""Published vision transformers: their sizes and details from the arrays, the rest from a configuration."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from metajax.networks.checkpoints import vit_names
from metajax.networks.checkpoints.table import Found, find, variables_of
from metajax.networks.checkpoints.vit_names import VisionTransformer
from metajax.networks.checkpoints.vit_settings import Settings, settings_of
from metajax.networks.linen.transformer import VIT, Size
from metajax.networks.linen.vision_transformer import Pool, resized_positions

MODEL = "a vision transformer"
TOKENS = ("class_token", "distillation_token", "registers", "positions", "pool.query")  # with leading axes of 1


def read_vit(
  tensors: dict[str, np.ndarray],
  layout: str,
  folder: str,
  path: str,
  image_size: int | None,
  read_settings: Callable[[VisionTransformer], Settings] | None = None,
) -> tuple[VisionTransformer, Found]:
  """Reads a vision transformer.

  Args:
    tensors: Arrays by their names in the file.
    layout: Layout of the names, of `vit_names.layout_of`.
    folder: Folder of the configuration.
    path: Path of the file, for messages.
    image_size: Side of the images in pixels, by default that of the preprocessing.
    read_settings: Measured sizes to settings, by default `settings_of` the folder.

  Returns:
    The architecture, and what was found.

  Raises:
    ValueError: if the file does not hold exactly the arrays of a vision transformer, or a configuration is invalid or
      contradicts them; the message names the array or the setting.
  """
  found, called, unused = vit_names.by_our_names(tensors, layout, path)
  found = {name: _without_ones(name, x) for name, x in found.items()}
  _join_distillation(found, called, path)
  measured = _measured(found, called, path)
  settings = settings_of(folder, path, layout, measured) if read_settings is None else read_settings(measured)
  said = (settings.said,) if settings.said else ()
  architecture = _with_settings(measured, settings, path)
  preprocessing = settings.preprocessing
  variables = variables_of(found, called, vit_names.table(architecture), path, MODEL)
  pixels = preprocessing.pixels if image_size is None else image_size
  if image_size is None and pixels != architecture.pixels and not settings.any_size:
    raise ValueError(
      f"expected images of {architecture.pixels} pixels, the size of the weights' positions, got a preprocessing to "
      f"{pixels}: image_size={pixels} interpolates the positions"
    )
  if pixels % architecture.patch and pixels != architecture.pixels:
    raise ValueError(f"expected an image_size that patches of {architecture.patch} pixels divide, got {pixels}")
  if pixels != architecture.pixels:
    first = architecture.pool == "class"
    params = variables["params"]
    resized = resized_positions(
      params["positions"], pixels // architecture.patch, first=first, antialias=settings.antialias
    )
    variables = {"params": params | {"positions": jnp.asarray(resized)}}
  return architecture._replace(pixels=pixels), Found(variables, preprocessing, unused, said)


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
  pool: Pool = "class" if "class_token" in found else "attention" if "pool.query" in found else "mean"
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
    gated=rows == 2 * inner,
    layer_scale=1.0 if "layer_0.attention_scale" in found else None,
    registers=sizes("registers", None, width)[0] if "registers" in found else 0,
  )
  size = Size(width, len(layers), 0, None if inner == 4 * width else inner)
  return VisionTransformer(size, patch, pool, details, side * patch)


def _with_settings(measured: VisionTransformer, settings: Settings, path: str) -> VisionTransformer:
  width, number = measured.size.width, settings.num_heads
  if number < 1 or width % number:
    raise ValueError(f"expected heads that divide the width of {width} in {path!r}, got {number}")
  size = measured.size._replace(num_heads=number)
  return measured._replace(size=size, details=settings.details, pixels=settings.pixels)
