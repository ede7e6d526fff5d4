"""Names and shapes of the arrays of CLIP's modified residual networks: OpenAI's, also used by open_clip, and ours."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from metajax.networks.checkpoints.table import Entry, convolution_entries, dense_entries
from metajax.networks.linen.clip_resnet import EXPANSION, STRIDE, ClipResNet
from metajax.networks.linen.clip_towers import Towers

STEM = "visual.conv3.weight"
POSITIONS = "visual.attnpool.positional_embedding"
POOL_OUTPUTS = "visual.attnpool.c_proj.weight"
COUNTS = ".num_batches_tracked"  # of training, which batch norm with a fixed momentum does not need
PARTS = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}
PLACES = {"params": "image", "state": "state.image"}  # of the image tower in our variables


def is_clip_resnet(tensors: Mapping[str, np.ndarray]) -> bool:
  """Returns True if the arrays have the names of a CLIP with a modified residual network."""
  return any(name.startswith(("visual.layer", "visual.attnpool.")) for name in tensors)


def blocks_of(tensors: Mapping[str, np.ndarray]) -> tuple[int, ...]:
  """Returns the number of blocks of each of the four stages."""
  matches = [re.match(r"visual\.layer([1-4])\.(\d+)\.", name) for name in tensors]
  found = {match.groups() for match in matches if match is not None}
  return tuple(len([block for stage, block in found if stage == str(i)]) for i in range(1, 5))


def image_arrays_of(size: ClipResNet, towers: Towers) -> Iterator[Entry]:
  """Yields every array of the image tower, the statistics of batch norm included."""
  width, inputs = size.width, size.width
  for i, (before, after) in enumerate(((3, width // 2), (width // 2, width // 2), (width // 2, width))):
    name = f"visual.conv{i + 1}"
    yield from convolution_entries(name, f"visual.bn{i + 1}", f"stem_{i}", after, before, 3, **PLACES)
  for stage, blocks in enumerate(size.blocks):
    for block in range(blocks):
      filters = width * 2**stage
      theirs, ours = f"visual.layer{stage + 1}.{block}", f"stage_{stage}_block_{block}"
      yield from _block(theirs, ours, inputs, filters, around=block == 0)
      inputs = EXPANSION * filters
  places, features = (towers.pixels // STRIDE) ** 2, size.num_features
  yield Entry(POSITIONS, (1 + places, features), "image.positions")
  for name, part in PARTS.items():
    theirs, ours = f"visual.attnpool.{name}", f"image.attention.{part}"
    yield from dense_entries(theirs, ours, features, features, "into_heads", size.num_heads)
  theirs = POOL_OUTPUTS.removesuffix(".weight")
  yield from dense_entries(theirs, "image.attention.out", towers.num_outputs, features, "out_of_heads", size.num_heads)


def _block(theirs: str, ours: str, inputs: int, filters: int, around: bool) -> Iterator[Entry]:
  outputs = EXPANSION * filters
  for i, (after, before, size) in enumerate(((filters, inputs, 1), (filters, filters, 3), (outputs, filters, 1))):
    convolution, norm = f"{theirs}.conv{i + 1}", f"{theirs}.bn{i + 1}"
    yield from convolution_entries(convolution, norm, f"{ours}_{i}", after, before, size, **PLACES)
  if around:
    shortcut = f"{theirs}.downsample"
    yield from convolution_entries(f"{shortcut}.0", f"{shortcut}.1", f"{ours}_around", outputs, inputs, 1, **PLACES)
