"""Groups of flags for generative pretraining on images."""

from typing import Annotated, Literal, NamedTuple

from experiments.families.data import ImageData
from metajax.data.text.corpus import is_text_file
from metajax.experiment.bounds import ABOVE_0, BELOW_1, Bounds, Depth, Width
from metajax.experiment.former_flags import Former, also


class Pixels(NamedTuple):
  """Palette and image size of the image GPT."""

  palette_size: Annotated[int, Bounds(2, 2**16), *also("--colours")] = 16
  """Maximum number of colors in the learned palette."""
  pixels: Annotated[int, Bounds(2, 1024)] = 16
  """Side in pixels to which images are resized for the image GPT."""


class Masking(NamedTuple):
  """Masking and decoder of the masked autoencoder."""

  patch: Annotated[int, Bounds(1, 4096)] = 4
  """Side of a patch, in pixels."""
  mask_ratio: Annotated[float, Bounds(ABOVE_0, BELOW_1), *also("--masked")] = 0.75
  """Fraction of masked patches, above 0 and below 1."""
  normalize: Annotated[bool, *also("--normalise")] = True
  """Reconstruct patches normalized to mean 0 and variance 1."""
  decoder_width: Width = 64
  """Width of the decoder, in values per token."""
  decoder_layers: Depth = 2
  """Layers of the decoder."""
  augmentation: Annotated[Literal["none", "crop"], Former("--crops", "crop")] = "none"
  """Augmentation of the training images."""


def check_not_text(model: str, data: ImageData):
  """Refuses text files, which only `gpt` reads.

  Raises:
    ValueError: naming the file.
  """
  if is_text_file(data.data):
    raise ValueError(f"expected --model gpt of a text file, got {model} of {data.data!r}")
