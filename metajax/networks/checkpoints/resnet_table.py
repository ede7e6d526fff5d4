"""Published residual networks: names of torchvision and timm, and of transformers, and ours."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from metajax.networks.checkpoints.files import read_config
from metajax.networks.checkpoints.preprocessing import IMAGENET, IMAGENET_DEVIATION, of_timm
from metajax.networks.checkpoints.settings import CONFIG, check_said, processor_of
from metajax.networks.checkpoints.table import Entry, Found, convolution_entries, find, variables_of
from metajax.networks.linen.resnet import BLOCKS, BOTTLENECKS, FILTERS
from metajax.types import Preprocessing

MODEL = "a residual network"
FIRST = {"torchvision": "conv1.weight", "transformers": "embedder.embedder.convolution.weight"}
HUGGING_FACE = (
  (r"embedder\.embedder\.convolution\.", "conv1."),
  (r"embedder\.embedder\.normalization\.", "bn1."),
  (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution\.", (r"layer{}.\2.conv{}.", 1, 3)),
  (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.normalization\.", (r"layer{}.\2.bn{}.", 1, 3)),
  (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution\.", (r"layer{}.\2.downsample.0.", 1)),
  (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization\.", (r"layer{}.\2.downsample.1.", 1)),
)
UNUSED = r"(fc|classifier\.1)\.(weight|bias)|.*\.num_batches_tracked"
SETTINGS: dict[str, Any] = {"hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False}
SETTINGS |= {"num_channels": 3, "embedding_size": FILTERS}


class ResNet(NamedTuple):
  """The architecture of a residual network.

  Attributes:
    depth: As for `resnet`.
    pixels: Side of an image, in pixels.
  """

  depth: int
  pixels: int


def is_resnet(tensors: Mapping[str, np.ndarray]) -> bool:
  """Returns True if the arrays have the names of a residual network."""
  return any(name.removeprefix("resnet.") in FIRST.values() for name in tensors)


def read_resnet(tensors: dict[str, np.ndarray], folder: str, path: str, image_size: int | None) -> tuple[ResNet, Found]:
  """Reads a residual network; arguments, returns and errors as for `vit.read_vit`."""
  found, called, unused = {}, {}, []
  for original, x in tensors.items():
    name = original.removeprefix("resnet.")
    if re.fullmatch(UNUSED, name):
      unused.append(original)
      continue
    name = _by_torchvision(name)
    if name in found:
      raise ValueError(f"expected each array once in {path!r}, got {called[name]!r} and {original!r}")
    found[name], called[name] = x, original
  depth = _depth(found, called, path)
  preprocessing, said = _preprocessing(folder, path, depth)
  variables = variables_of(found, called, table(depth), path, MODEL)
  pixels = preprocessing.pixels if image_size is None else image_size
  return ResNet(depth, pixels), Found(variables, preprocessing, tuple(sorted(unused)), said)


def table(depth: int) -> Iterator[Entry]:
  """Yields every array of a residual network, by torchvision's names."""
  yield from convolution_entries("conv1", "bn1", "stem", FILTERS, 3, 7)
  inputs, bottleneck = FILTERS, depth in BOTTLENECKS
  for stage, blocks in enumerate(BLOCKS[depth]):
    filters = FILTERS * 2**stage
    outputs = 4 * filters if bottleneck else filters
    for block in range(blocks):
      theirs, ours = f"layer{stage + 1}.{block}", f"stage_{stage}_block_{block}"
      layers = [(filters, inputs, 1), (filters, filters, 3), (outputs, filters, 1)]
      layers = layers if bottleneck else [(filters, inputs, 3), (filters, filters, 3)]
      for i, (after, before, size) in enumerate(layers):
        convolution, norm = f"{theirs}.conv{i + 1}", f"{theirs}.bn{i + 1}"
        yield from convolution_entries(convolution, norm, f"{ours}_{i}", after, before, size)
      if inputs != outputs:
        around = f"{theirs}.downsample"
        yield from convolution_entries(f"{around}.0", f"{around}.1", f"{ours}_around", outputs, inputs, 1)
      inputs = outputs


def hugging_face_name(name: str) -> str:
  """Returns transformers' name of an array of torchvision's."""
  if name.startswith(("conv1.", "bn1.")):
    start, end = name.split(".")
    return f"resnet.embedder.embedder.{'convolution' if start == 'conv1' else 'normalization'}.{end}"
  stage, block, *rest = name.removeprefix("layer").split(".")
  layer = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}"
  if rest[0] == "downsample":
    return f"{layer}.shortcut.{('convolution', 'normalization')[int(rest[1])]}.{rest[2]}"
  kind = "convolution" if rest[0].startswith("conv") else "normalization"
  return f"{layer}.layer.{int(rest[0][-1]) - 1}.{kind}.{rest[1]}"


def configuration(depth: int) -> dict:
  """Returns transformers' configuration of a residual network."""
  bottleneck = depth in BOTTLENECKS
  return {
    "architectures": ["ResNetModel"],
    "model_type": "resnet",
    "depths": list(BLOCKS[depth]),
    "hidden_sizes": [FILTERS * 2**stage * (4 if bottleneck else 1) for stage in range(4)],
    "layer_type": "bottleneck" if bottleneck else "basic",
    **SETTINGS,
  }


def _by_torchvision(name: str) -> str:
  for pattern, new in HUGGING_FACE:
    if match := re.match(pattern, name):
      if isinstance(new, str):
        return match.expand(new) + name[match.end() :]
      template, *counted = new
      return match.expand(template.format(*(int(match[i]) + 1 for i in counted))) + name[match.end() :]
  return name


def _depth(found: dict, called: dict, path: str) -> int:
  blocks = tuple(len({name.split(".")[1] for name in found if name.startswith(f"layer{i}.")}) for i in range(1, 5))
  bottleneck = "layer1.0.conv3.weight" in found
  depths = [depth for depth, known in BLOCKS.items() if known == blocks and (depth in BOTTLENECKS) == bottleneck]
  if not depths:
    given = f"blocks {blocks}, {'with' if bottleneck else 'without'} bottlenecks"
    raise ValueError(f"expected a ResNet-{', '.join(map(str, BLOCKS))} in {path!r}, got {given}")
  find(found, called, "conv1.weight", (FILTERS, 3, 7, 7), path, MODEL)
  return depths[0]


def _preprocessing(folder: str, path: str, depth: int) -> tuple[Preprocessing, tuple[str, ...]]:
  config, where = read_config(folder, CONFIG), os.path.join(folder, CONFIG)
  if config is not None and ("architecture" in config or "pretrained_cfg" in config):
    said = config.get("pretrained_cfg", config)
    size = said.get("input_size", [3, 224, 224]) if isinstance(said, dict) else None
    if not (isinstance(size, list) and len(size) == 3 and isinstance(size[2], int)):
      raise ValueError(f"expected input_size [3, height, width] in {where!r}, got {size!r}")
    return of_timm(said, size[2], where), ()
  if config is not None:
    wanted = configuration(depth)
    check_said(
      config, {name: wanted[name] for name in ("model_type", "hidden_sizes", "layer_type", *SETTINGS)}, "", where
    )
  if (known := processor_of(folder)) is not None:
    return known, ()
  assumed = Preprocessing(224, "shortest", 256, "bilinear", IMAGENET, IMAGENET_DEVIATION, 0, "even")
  return assumed, (f"found no preprocessing next to {path!r}, assuming torchvision's: {assumed}",)
