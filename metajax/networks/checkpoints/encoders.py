"""Published image encoders, from a safetensors file or a publisher's folder into networks, and back."""

import json
import os
import warnings
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from safetensors.flax import save

from metajax import checks
from metajax.networks.checkpoints import resnet_table, vit, vit_names, vit_writer
from metajax.networks.checkpoints.clip import LARGEST, load_clip, normalized
from metajax.networks.checkpoints.files import folder_of, read_tensors
from metajax.networks.checkpoints.preprocessing import at_size, for_hugging_face
from metajax.networks.checkpoints.resnet_table import ResNet
from metajax.networks.checkpoints.settings import CONFIG, PROCESSOR
from metajax.networks.checkpoints.table import tensors_of
from metajax.networks.checkpoints.vit_names import VisionTransformer
from metajax.networks.linen.clip_towers import Towers
from metajax.networks.linen.resnet import resnet
from metajax.networks.linen.vision_transformer import vision_transformer
from metajax.paths import write_whole
from metajax.types import Network, Params, Preprocessing, State


class Encoder(NamedTuple):
  """A published image encoder.

  Attributes:
    network: Network from images in [0, 1] to features `[n, d]`: it subtracts the mean of its training images and
      divides by their standard deviation.
    params: Its params, in float32.
    state: Its running statistics; `{}` without batch norm.
    architecture: Sizes and details.
    preprocessing: Resizing and cropping of images, for `data.load` and `data.preprocess`.
    unused: Names of the arrays in the file that features do not need, e.g. of a classifier.
  """

  network: Network
  params: Params
  state: State
  architecture: VisionTransformer | ResNet | Towers
  preprocessing: Preprocessing
  unused: tuple[str, ...] = ()


def load_encoder(path: str | os.PathLike, *, image_size: int | None = None, dtype: DTypeLike = jnp.float32) -> Encoder:
  """Loads a published image encoder from local files. Only numbers are read: nothing is unpickled.

  Vision transformers: ViT, DeiT, DINOv2 (also with registers, layer scale and SwiGLU), the image towers of SigLIP,
  SigLIP 2 (of a fixed size) and CLIP; with the names of transformers, timm, or DINOv2's repository. Residual networks
  of 18 to 101 layers, with the names of torchvision, timm or transformers, and CLIP's, with OpenAI's. Features are the
  class token after the last norm, SigLIP's attention pooling, CLIP's embedding, or a ResNet's mean over space.

  Sizes come from the arrays. Other settings come from the publisher's files in the folder, with their defaults:
  `config.json` of transformers or timm, and `preprocessor_config.json`. Without them they are assumed, with a warning.

  Args:
    path: A `.safetensors` file, in 16 or 32 bits; the index (`.safetensors.index.json`) of several; or a folder with
      one of them.
    image_size: Side of the input images in pixels, by default that of the publisher's preprocessing. For another size,
      positions are interpolated as the publisher does, and the preprocessing is scaled.
    dtype: Type of products and activations; params are float32.

  Returns:
    The network, its variables and settings, an `Encoder`.

  Raises:
    FileNotFoundError: if the file does not exist, or the folder has no safetensors.
    ValueError: if a file is damaged or not safetensors; if it does not hold exactly the arrays of such an encoder; if a
      configuration is invalid or contradicts the arrays; if the number of heads cannot be guessed without one; or if
      `image_size` is not divisible into patches. The message names the array or the setting.
  """
  path = os.fspath(checks.local_path("path", path))
  if image_size is not None:
    checks.count("image_size", image_size, 1, LARGEST)
  tensors, folder = read_tensors(path), folder_of(path)
  layout = vit_names.layout_of(tensors)
  if layout is not None:
    architecture, found = vit.read_vit(tensors, layout, folder, path, image_size)
  elif resnet_table.is_resnet(tensors):
    architecture, found = resnet_table.read_resnet(tensors, folder, path, image_size)
  else:
    return _of_clip(path, image_size, dtype, tensors)
  for doubt in found.said:
    warnings.warn(doubt, stacklevel=2)
  preprocessing = found.preprocessing if image_size is None else at_size(found.preprocessing, image_size)
  network = normalized(network_of(architecture, dtype), preprocessing)
  params, state = found.variables["params"], found.variables.get("state", {})
  return Encoder(network, params, state, architecture, preprocessing, found.unused)


def save_encoder(
  folder: str | os.PathLike,
  params: Params,
  state: State,
  architecture: VisionTransformer | ResNet,
  preprocessing: Preprocessing,
):
  """Writes an encoder to a folder that transformers' `AutoModel.from_pretrained` and `load_encoder` can read.

  Args:
    folder: Folder to write, created if missing.
    params, state, architecture, preprocessing: As returned by `load_encoder`. For a network trained here: its
      `VisionTransformer` or `ResNet`, and a `Preprocessing` of mean 0 and deviation 1 if it took images in [0, 1].

  Raises:
    ValueError: if the params do not match the architecture, or transformers has no such model or preprocessing.
  """
  folder = checks.local_path("folder", folder)
  if preprocessing.pixels != architecture.pixels:
    raise ValueError(f"expected a preprocessing to {architecture.pixels} pixels, got {preprocessing}")
  if isinstance(architecture, ResNet):
    table, config = resnet_table.table(architecture.depth), resnet_table.configuration(architecture.depth)
    table = [entry._replace(theirs=resnet_table.hugging_face_name(entry.theirs)) for entry in table]
    tensors = tensors_of({"params": params, "state": state}, table, f"a ResNet-{architecture.depth}")
  else:
    table, config = vit_writer.table(architecture), vit_writer.configuration(architecture)
    tensors = tensors_of({"params": params}, table, "this vision transformer")
  for name, said in {CONFIG: config, PROCESSOR: for_hugging_face(preprocessing)}.items():
    write_whole(folder / name, json.dumps(said, indent=2).encode())
  write_whole(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))


def network_of(architecture: VisionTransformer | ResNet, dtype: DTypeLike = jnp.float32) -> Network:
  """The network of an architecture, for normalized images."""
  if isinstance(architecture, ResNet):
    return resnet(architecture.depth, dtype=dtype)
  size, patch, pool, details, pixels = architecture
  network = vision_transformer(size, patch, pool=pool, details=details, dtype=dtype)
  return _in_whole_patches(network, pixels // patch * patch) if pixels % patch else network


def _in_whole_patches(network: Network, pixels: int) -> Network:
  """Drops the last rows and columns of the images, as a convolution without padding does."""

  def init(key, images):
    return network.init(key, images[:, :pixels, :pixels])

  def apply(params, state, images, *, train, key=None):
    return network.apply(params, state, images[:, :pixels, :pixels], train=train, key=key)

  return Network(init, apply)


def _of_clip(path: str, image_size: int | None, dtype: DTypeLike, tensors: dict[str, Any]) -> Encoder:
  if "visual_projection.weight" not in tensors and not any(name.startswith("visual.") for name in tensors):
    shown = ", ".join(map(repr, sorted(tensors)[: checks.SHOWN]))
    raise ValueError(
      f"expected the arrays of a vision transformer, a residual network or a CLIP in {path!r}, got {shown}"
    )
  found = load_clip(path, image_size=image_size, dtype=dtype)
  return Encoder(found.networks.first, found.params["image"], found.state["image"], found.towers, found.preprocessing)
