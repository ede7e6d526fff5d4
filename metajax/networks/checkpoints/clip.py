"""CLIP's published weights, from a safetensors file or a publisher's folder into its towers, and back."""

import json
import os
import warnings
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from safetensors.flax import save

from metajax import checks
from metajax.networks.checkpoints import names
from metajax.networks.checkpoints.clip_arrays import measured_of, variables_of_clip, with_heads
from metajax.networks.checkpoints.files import folder_of, read_config, read_tensors
from metajax.networks.checkpoints.hugging_face import configuration, hugging_face
from metajax.networks.checkpoints.open_clip import open_clip
from metajax.networks.checkpoints.preprocessing import at_size, for_hugging_face
from metajax.networks.checkpoints.settings import CONFIG, OPEN_CLIP, PROCESSOR, Settings, guessed, processor_of
from metajax.networks.checkpoints.table import tensors_of
from metajax.networks.linen.clip_towers import Towers, clip_towers
from metajax.networks.linen.transformer import CLIP, Details, Size
from metajax.networks.linen.vision_transformer import resized_positions
from metajax.paths import write_whole
from metajax.types import Network, Pair, Preprocessing

LARGEST = 4096  # pixels per side of an image


class Pretrained(NamedTuple):
  """A pretrained CLIP.

  Attributes:
    networks: `Pair` of the image network and the text network. Images are in [0, 1]: the network subtracts the mean of
      its training images and divides by their standard deviation.
    params: `{"image": ..., "text": ..., "log_scale": ...}` in float32, the params of `learners.clip(*networks)`.
    towers: Sizes of the towers.
    details: Activation and norms of the towers.
    preprocessing: Resizing and cropping of images, for `data.load` and `data.preprocess`.
    state: `{"image": ..., "text": {}}`, the state of the learner: the statistics of a residual network's batch norm;
      `{}` for a transformer.
  """

  networks: Pair
  params: dict
  towers: Towers
  details: Details
  preprocessing: Preprocessing
  state: dict


def load_clip(path: str | os.PathLike, *, image_size: int | None = None, dtype: DTypeLike = jnp.float32) -> Pretrained:
  """Loads a CLIP with a vision transformer or a modified residual network from local files, without unpickling.

  Sizes come from the arrays. Other settings come from the publisher's files in the folder, with their defaults: Hugging
  Face's `config.json` and `preprocessor_config.json`, or open_clip's `open_clip_config.json`; if both exist, the one
  that matches the arrays' names. A CLIP with a residual network has OpenAI's names and open_clip's file, as Hugging
  Face has no such model. Without a configuration the settings of OpenAI's models are assumed, with a warning.

  Args:
    path: A `.safetensors` file, in 16 or 32 bits, with the names of OpenAI (open_clip) or of Hugging Face's
      `CLIPModel`; the index (`.safetensors.index.json`) of several; or a folder with one of them.
    image_size: Side of the input images in pixels, by default the size of the weights. For another size, positions are
      interpolated (cubic, as open_clip does for transformers) and the preprocessing is scaled.
    dtype: Type of products and activations; params are float32.

  Returns:
    The networks, params, state and settings, a `Pretrained`.

  Raises:
    FileNotFoundError: if the file does not exist, or the folder has no safetensors.
    ValueError: if a file is damaged or not safetensors; if it does not hold exactly the arrays of such a CLIP; if a
      configuration is invalid or contradicts the arrays; if it is missing and the number of heads cannot be guessed; or
      if `image_size` is not divisible into patches.
  """
  path = os.fspath(checks.local_path("path", path))
  tensors, called = names.by_hugging_face(read_tensors(path), path)
  openai = any(name != original for name, original in called.items())
  measured = measured_of(tensors, called, path)
  if image_size is not None:
    _check_image_size(image_size, measured)
  settings = _settings(folder_of(path), path, measured, openai)
  towers = with_heads(measured, settings.num_heads, path)
  params, state = variables_of_clip(tensors, called, towers, settings.scale, path)
  towers, params, preprocessing = _at_size(towers, params, settings.preprocessing, image_size)
  for said in settings.said:
    warnings.warn(said, stacklevel=2)
  image, text = clip_towers(towers, dtype=dtype, details=settings.details)
  image = normalized(image, preprocessing)
  return Pretrained(Pair(image, text), params, towers, settings.details, preprocessing, state)


def save_clip(
  folder: str | os.PathLike,
  params: dict,
  towers: Towers,
  details: Details = CLIP,
  preprocessing: Preprocessing | None = None,
):
  """Writes params to a folder that Hugging Face's `CLIPModel.from_pretrained` and `load_clip` can read.

  Args:
    folder: Folder to write, created if missing.
    params, towers, details: Params and settings as returned by `load_clip`.
    preprocessing: Likewise; with mean 0 and deviation 1 for a network of unnormalized images in [0, 1]. By default no
      `preprocessor_config.json` is written, and readers assume OpenAI's preprocessing.

  Raises:
    ValueError: if the params do not match the towers, or Hugging Face has no such preprocessing, or no such model: it
      has none with a residual network.
  """
  folder = checks.local_path("folder", folder)
  config = configuration(towers, details)
  tensors = tensors_of(params, names.arrays_of(towers), str(towers))
  if preprocessing is not None and preprocessing.pixels != towers.pixels:
    raise ValueError(f"expected a preprocessing to {towers.pixels} pixels, as in towers, got {preprocessing}")
  texts = {CONFIG: config}
  texts |= {} if preprocessing is None else {PROCESSOR: for_hugging_face(preprocessing)}
  for name, said in texts.items():
    write_whole(folder / name, json.dumps(said, indent=2).encode())
  write_whole(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))


def _settings(folder, path, measured: Towers, openai: bool) -> Settings:
  """Reads the settings from the configuration that matches the arrays' names, else the other one, else guesses."""
  theirs, others = read_config(folder, CONFIG), read_config(folder, OPEN_CLIP)
  theirs = theirs if isinstance(measured.image, Size) else None  # Hugging Face has no residual CLIP
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


def _at_size(towers: Towers, params: dict, preprocessing: Preprocessing, image_size: int | None):
  """Returns towers, params and preprocessing for another image size."""
  if image_size is None:
    if preprocessing.pixels != towers.pixels:
      raise ValueError(
        f"expected images of {towers.pixels} x {towers.pixels}, the size of the weights' positions, got a "
        f"preprocessing to {preprocessing.pixels} x {preprocessing.pixels}: image_size={preprocessing.pixels} "
        "interpolates the positions"
      )
    return towers, params, preprocessing
  if image_size != towers.pixels:
    positions = resized_positions(params["image"]["positions"], image_size // towers.patch)
    params = params | {"image": params["image"] | {"positions": jnp.asarray(positions)}}
  return towers._replace(pixels=image_size), params, at_size(preprocessing, image_size)


def normalized(network: Network, preprocessing: Preprocessing) -> Network:
  """Makes a network take images in [0, 1], gray or in color, by normalizing them first."""

  def normal(images):
    return (images - jnp.asarray(preprocessing.mean, images.dtype)) / jnp.asarray(preprocessing.deviation, images.dtype)

  def apply(params, state, images, *, train, key=None):
    _check_images(images, preprocessing.pixels)
    return network.apply(params, state, normal(images), train=train, key=key)

  return Network(network.init, apply)


def _check_images(images, pixels):
  """Checks that images are floating, not bytes, and have the size of the preprocessing."""
  checks.floating("images in [0, 1]", images, "n", "height", "width", "channels")
  height, width, channels = images.shape[1:]
  if (height, width) != (pixels, pixels) or channels not in (1, 3):
    raise ValueError(
      f"expected images [n, {pixels}, {pixels}, 3], the size of the weights, got {list(images.shape)}: "
      "image_size=... adapts the weights to another size"
    )
