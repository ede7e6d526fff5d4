"""CLIP's published weights: from a safetensors file or a folder of its publisher's into its towers, and back."""

import json
import os
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from safetensors.flax import save

from metajax import checks
from metajax.networks.checkpoints import names
from metajax.networks.checkpoints.arrays import measured_of, params_of, with_heads
from metajax.networks.checkpoints.files import folder_of, read_config, read_tensors
from metajax.networks.checkpoints.hugging_face import configuration, hugging_face
from metajax.networks.checkpoints.open_clip import open_clip
from metajax.networks.checkpoints.preprocessing import at_size, for_hugging_face
from metajax.networks.checkpoints.settings import CONFIG, OPEN_CLIP, PROCESSOR, Settings, guessed, processor_of
from metajax.networks.linen.clip_towers import Towers, clip_towers
from metajax.networks.linen.transformer import CLIP, Details
from metajax.networks.linen.vision_transformer import resized_positions
from metajax.paths import write_whole
from metajax.types import Network, Pair, Preprocessing

LARGEST = 4096  # pixels of an image's side


class Pretrained(NamedTuple):
  """Weights and the networks that they are of.

  Attributes:
    networks: the `Pair` of the image's and the text's network; neither has a state. Images are in [0, 1]: the
      network takes the mean off that the weights were trained with, and divides by the deviation.
    params: {"image": ..., "text": ..., "log_scale": ...}, float32, those of `learners.clip(*networks)`.
    towers: their sizes.
    details: which activation and norms they have.
    preprocessing: how their images are resized and cut, for `data.load` and `data.preprocess`.
  """

  networks: Pair
  params: dict
  towers: Towers
  details: Details
  preprocessing: Preprocessing


def load_clip(path: str | os.PathLike, *, image_size: int | None = None, dtype: DTypeLike = jnp.float32) -> Pretrained:
  """CLIP with vision transformers from files that a user has. Only numbers are read: nothing is unpickled.

  Arrays tell the sizes. The rest is as its publisher says in the folder: Hugging Face's `config.json` and
  `preprocessor_config.json`, or open_clip's `open_clip_config.json`, with their defaults; of two, that of the arrays'
  names. What neither says is as OpenAI's models have it, and a warning tells.

  Args:
    path: a `.safetensors` file, in 16 or 32 bits, with the names of OpenAI (open_clip) or of Hugging Face's
      `CLIPModel`; the index (`.safetensors.index.json`) of several; or a folder with one of them.
    image_size: side of the images that the network is to see, if another than the weights': positions of patches
      are then interpolated (cubic, as open_clip does), and the preprocessing is scaled.
    dtype: of products and activations; params are float32.

  Raises:
    FileNotFoundError: if there is no such file, or no safetensors in the folder.
    ValueError: if a file is damaged or not safetensors; if it holds other arrays than such a CLIP's, or one of another
      shape, naming it; if a configuration is not as expected or does not match the arrays; or if there is none and
      the number of heads cannot be guessed; if patches do not divide `image_size`.
  """
  path = os.fspath(checks.local_path("path", path))
  tensors, called = names.by_hugging_face(read_tensors(path), path)
  openai = any(name != original for name, original in called.items())
  measured = measured_of(tensors, called, path)
  if image_size is not None:
    _check_image_size(image_size, measured)
  settings = _settings(folder_of(path), path, measured, openai)
  towers = with_heads(measured, settings.num_heads, path)
  params = params_of(tensors, called, towers, settings.scale, path)
  towers, params, preprocessing = _at_size(towers, params, settings.preprocessing, image_size)
  for said in settings.said:
    warnings.warn(said, stacklevel=2)
  image, text = clip_towers(towers, dtype=dtype, details=settings.details)
  image = _normalized(image, towers.pixels, preprocessing)
  return Pretrained(Pair(image, text), params, towers, settings.details, preprocessing)


def save_clip(
  folder: str | os.PathLike,
  params: dict,
  towers: Towers,
  details: Details = CLIP,
  preprocessing: Preprocessing | None = None,
):
  """Writes params as a folder that Hugging Face's `CLIPModel.from_pretrained` and `load_clip` read.

  Args:
    folder: made where it is missing.
    params, towers, details: of the networks, as `load_clip` gives them.
    preprocessing: likewise; of a network that sees images in [0, 1] as they are, mean 0 and deviation 1. By default
      there is no `preprocessor_config.json`, and who reads the folder takes OpenAI's.

  Raises:
    ValueError: if the params are not those of these towers, naming one; if Hugging Face knows no such preprocessing.
  """
  folder = checks.local_path("folder", folder)
  flat = {
    ".".join(str(k.key) for k in path): np.asarray(x, np.float32) for path, x in jax.tree.leaves_with_path(params)
  }
  tensors = {}
  for theirs, shape, ours, kind, num_heads in names.arrays_of(towers):
    if ours not in flat:
      raise ValueError(f"expected params of {towers}, got none named {ours!r}")
    x, wanted = flat.pop(ours), names.forward(np.zeros(shape, np.uint8), kind, num_heads).shape
    if x.shape != wanted:
      raise ValueError(f"expected params of {towers}, {ours!r} of shape {list(wanted)}, got {list(x.shape)}")
    tensors[theirs] = jnp.asarray(names.backward(x, kind))
  if flat:
    raise ValueError(f"expected params of {towers}, got {next(iter(flat))!r} too")
  if preprocessing is not None and preprocessing.pixels != towers.pixels:
    raise ValueError(f"expected a preprocessing to {towers.pixels} pixels, as towers have it, got {preprocessing}")
  texts = {CONFIG: configuration(towers, details)}
  texts |= {} if preprocessing is None else {PROCESSOR: for_hugging_face(preprocessing)}
  for name, said in texts.items():
    write_whole(folder / name, json.dumps(said, indent=2).encode())
  write_whole(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))


def _settings(folder, path, measured: Towers, openai: bool) -> Settings:
  """By the configuration of the arrays' names, else by the other one, else a guess."""
  theirs, others = read_config(folder, CONFIG), read_config(folder, OPEN_CLIP)
  if others is not None and (openai or theirs is None):
    return open_clip(others, measured, os.path.join(folder, OPEN_CLIP))
  if theirs is None:
    return guessed(folder, path, measured)
  preprocessing = processor_of(folder)
  if preprocessing is None and others is not None:
    preprocessing = open_clip(others, measured, os.path.join(folder, OPEN_CLIP)).preprocessing
  return hugging_face(theirs, measured, preprocessing, os.path.join(folder, CONFIG))


def _check_image_size(image_size, measured: Towers):
  checks.count("image_size", image_size, measured.patch, LARGEST)
  if image_size % measured.patch:
    raise ValueError(f"expected an image_size that patches of {measured.patch} pixels divide, got {image_size}")


def _at_size(towers: Towers, params: dict, how: Preprocessing, image_size: int | None):
  """Towers, params and preprocessing for images of another size than the weights'."""
  if image_size is None:
    if how.pixels != towers.pixels:
      raise ValueError(
        f"expected images of {towers.pixels} x {towers.pixels}, the size of the weights' positions, got a "
        f"preprocessing to {how.pixels} x {how.pixels}: image_size={how.pixels} interpolates the positions"
      )
    return towers, params, how
  if image_size != towers.pixels:
    positions = resized_positions(params["image"]["positions"], image_size // towers.patch)
    params = params | {"image": params["image"] | {"positions": jnp.asarray(positions)}}
  return towers._replace(pixels=image_size), params, at_size(how, image_size)


def _normalized(network: Network, pixels: int, how: Preprocessing) -> Network:
  """The network on images in [0, 1], gray or in color."""

  def normal(images):
    return (images - jnp.asarray(how.mean, images.dtype)) / jnp.asarray(how.deviation, images.dtype)

  def apply(params, state, images, *, train, key=None):
    _check_images(images, pixels)
    return network.apply(params, state, normal(images), train=train, key=key)

  return Network(network.init, apply)


def _check_images(images, pixels):
  """Refuses bytes, which are no images in [0, 1], and other sizes than the positions'."""
  checks.floating("images in [0, 1]", images, "n", "height", "width", "channels")
  height, width, channels = images.shape[1:]
  if (height, width) != (pixels, pixels) or channels not in (1, 3):
    raise ValueError(
      f"expected images [n, {pixels}, {pixels}, 3], as the weights have seen, got {list(images.shape)}: "
      "load_clip(path, image_size=...) reads them for another size"
    )
