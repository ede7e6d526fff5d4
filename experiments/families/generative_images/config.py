"""Flags of generative pre-training on images, in groups."""

from typing import Annotated, Literal, NamedTuple

from experiments.families.data import ImageData
from metajax.data.text.corpus import is_text_file
from metajax.experiment.bounds import ABOVE_0, BELOW_1, Bounds, Depth, Width
from metajax.experiment.former_flags import Former, also


class Pixels(NamedTuple):
  """What an image GPT sees of an image."""

  palette_size: Annotated[int, Bounds(2, 2**16), *also("--colours")] = 16
  """Colors of the palette, at most: it is learned."""
  pixels: Annotated[int, Bounds(2, 1024)] = 16
  """Images are brought to pixels x pixels."""


class Masking(NamedTuple):
  """What a masked autoencoder sees of an image, and its decoder."""

  patch: Annotated[int, Bounds(1, 4096)] = 4
  """Side of a patch."""
  mask_ratio: Annotated[float, Bounds(ABOVE_0, BELOW_1), *also("--masked")] = 0.75
  """Share of the patches that are hidden."""
  normalize: Annotated[bool, *also("--normalise")] = True
  """Compare patches of mean 0 and variance 1."""
  decoder_width: Width = 64
  """Values of a token of the decoder."""
  decoder_layers: Depth = 2
  """Layers of the decoder."""
  augmentation: Annotated[Literal["none", "crop"], Former("--crops", "crop")] = "none"
  """Augmentation of the training images."""


def check_not_text(model: str, data: ImageData):
  """Refuses texts.

  Raises:
    ValueError: naming the file.
  """
  if is_text_file(data.data):
    raise ValueError(f"expected --model gpt of a text file, got {model} of {data.data!r}")
