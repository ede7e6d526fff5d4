"""SigLIP's published weights, from a safetensors file or a publisher's folder into its towers, and back."""

import functools
import json
import os
import warnings
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from safetensors.flax import save

from metajax import checks
from metajax.networks.checkpoints import siglip_names, siglip_open_clip, siglip_settings, siglip_writer, vit
from metajax.networks.checkpoints.clip import LARGEST, normalized
from metajax.networks.checkpoints.encoders import network_of
from metajax.networks.checkpoints.files import folder_of, read_config, read_tensors
from metajax.networks.checkpoints.preprocessing import at_size, for_hugging_face
from metajax.networks.checkpoints.settings import CONFIG, OPEN_CLIP, PROCESSOR
from metajax.networks.checkpoints.siglip_names import MODEL, SCALARS, TOWERS, Arrays, SiglipText
from metajax.networks.checkpoints.table import Found, variables_of
from metajax.networks.checkpoints.vit_names import VisionTransformer
from metajax.networks.linen.siglip_text import siglip_text
from metajax.paths import write_whole
from metajax.types import Network, Pair, Preprocessing


class Siglip(NamedTuple):
  """A pretrained SigLIP.

  Attributes:
    networks: `Pair` of the image network and the text network; neither has a state. Images are in [0, 1]: the network
      subtracts the mean of its training images and divides by their standard deviation. Texts are padded to
      `text.max_length` tokens, to which all others attend.
    params: `{"image": ..., "text": ..., "log_scale": ..., "bias": ...}` in float32, the params of
      `learners.clip(*networks, loss="siglip")`.
    image, text: Architectures of the towers.
    preprocessing: Resizing and cropping of images, for `data.load` and `data.preprocess`.
  """

  networks: Pair
  params: dict
  image: VisionTransformer
  text: SiglipText
  preprocessing: Preprocessing


def load_siglip(path: str | os.PathLike, *, image_size: int | None = None, dtype: DTypeLike = jnp.float32) -> Siglip:
  """Loads a SigLIP (arXiv:2303.15343), or a SigLIP 2 of a fixed image size (arXiv:2502.14786), from local files.

  Only numbers are read: nothing is unpickled. Sizes come from the arrays. Other settings come from the publisher's
  files in the folder, with their defaults: transformers' `config.json` and `preprocessor_config.json`, or open_clip's
  `open_clip_config.json`. Without them those of the published models are assumed, with a warning. Activations are the
  tanh GELU of the published training code, unless a configuration names another.

  Args:
    path: A `.safetensors` file, in 16 or 32 bits, with the names of transformers' `SiglipModel` or of open_clip; the
      index (`.safetensors.index.json`) of several; or a folder with one of them.
    image_size: Side of the input images in pixels, by default that of the publisher's preprocessing. For another size,
      positions are interpolated as the publisher does, and the preprocessing is scaled.
    dtype: Type of products and activations; params are float32.

  Returns:
    The networks, params and settings, a `Siglip`. Its logits are `exp(log_scale) cosine + bias`.

  Raises:
    FileNotFoundError: if the file does not exist, or the folder has no safetensors.
    ValueError: if a file is damaged or not safetensors; if it does not hold exactly the arrays of such a SigLIP; if a
      configuration is invalid or contradicts the arrays; if the number of heads cannot be guessed without one; or if
      `image_size` is not divisible into patches. The message names the array or the setting.
  """
  path = os.fspath(checks.local_path("path", path))
  if image_size is not None:
    checks.count("image_size", image_size, 1, LARGEST)
  arrays = siglip_names.divided(read_tensors(path), path)
  name = CONFIG if arrays.layout == "transformers" else OPEN_CLIP
  config, where = read_config(folder_of(path), name), os.path.join(folder_of(path), name)
  image, found = _image(arrays, config, path, where, image_size)
  text, text_params, doubt = _text(arrays, config, path, where)
  if text.num_outputs != image.size.width:
    given = f"{image.size.width} and {text.num_outputs}"
    raise ValueError(f"expected towers of one output width in {path!r}, got {given}")
  scalars = {name: x.reshape(()) if x.size == 1 and x.ndim == 1 else x for name, x in arrays.others.items()}
  params = {"image": found.variables["params"], "text": text_params}
  params |= variables_of(scalars, dict(zip(scalars, scalars, strict=True)), SCALARS, path, MODEL)
  for said in (*found.said, *doubt):
    warnings.warn(said, stacklevel=2)
  preprocessing = found.preprocessing if image_size is None else at_size(found.preprocessing, image_size)
  networks = Pair(normalized(network_of(image, dtype), preprocessing), text_network(text, dtype))
  return Siglip(networks, params, image, text, preprocessing)


def save_siglip(
  folder: str | os.PathLike, params: dict, image: VisionTransformer, text: SiglipText, preprocessing: Preprocessing
):
  """Writes params to a folder that transformers' `SiglipModel.from_pretrained` and `load_siglip` can read.

  Args:
    folder: Folder to write, created if missing.
    params, image, text: Params and architectures as returned by `load_siglip`.
    preprocessing: Likewise; with mean 0 and deviation 1 for a network of unnormalized images in [0, 1].

  Raises:
    ValueError: if the params do not match the architectures, the image tower is not a SigLIP's, or transformers has no
      such preprocessing.
  """
  folder = checks.local_path("folder", folder)
  if preprocessing.pixels != image.pixels:
    raise ValueError(f"expected a preprocessing to {image.pixels} pixels, as in image, got {preprocessing}")
  tensors = siglip_writer.tensors_of_pair(params, image, text)
  texts = {CONFIG: siglip_writer.configuration(image, text), PROCESSOR: for_hugging_face(preprocessing)}
  for name, said in texts.items():
    write_whole(folder / name, json.dumps(said, indent=2).encode())
  write_whole(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))


def text_network(text: SiglipText, dtype: DTypeLike = jnp.float32) -> Network:
  """The network of a text tower's architecture."""
  vocab_size, size, max_length, num_outputs, details = text
  return siglip_text(vocab_size, size, max_length, num_outputs=num_outputs, details=details, dtype=dtype)


def _image(
  arrays: Arrays, config: dict | None, path: str, where: str, image_size: int | None
) -> tuple[VisionTransformer, Found]:
  """Reads the image tower."""
  read_settings = None
  if config is not None and arrays.layout == "transformers":
    siglip_settings.check_kind(config, where)
  elif config is not None:
    read_settings = functools.partial(siglip_open_clip.image_settings, config, where)
  layout = TOWERS[arrays.layout][2]
  image, found = vit.read_vit(arrays.image, layout, folder_of(path), path, image_size, read_settings)
  if others := [name for name in found.unused if not name.endswith("position_ids")]:
    raise ValueError(f"expected the arrays of {MODEL}, got {others[0]!r} too in {path!r}")
  if image.pool != "attention":
    raise ValueError(f"expected attention pooling in the image tower of {MODEL} in {path!r}, got pool {image.pool!r}")
  return image, found


def _text(arrays: Arrays, config: dict | None, path: str, where: str) -> tuple[SiglipText, dict, tuple[str, ...]]:
  """Reads the text tower; returns its architecture, its params, and warnings."""
  found, called = siglip_names.text_arrays(arrays, path)
  measured, doubt = siglip_names.measured_text(found, called, path), ()
  if config is None:
    text, said = siglip_settings.guessed(measured, path)
    doubt = (said,)
  elif arrays.layout == "transformers":
    text = siglip_settings.of_transformers(config, where, measured)
  else:
    text = siglip_open_clip.text_settings(config, where, measured)
  table = siglip_names.text_table(text)
  return text, variables_of(found, called, table, path, MODEL)["params"], doubt
