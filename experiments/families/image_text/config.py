"""Groups of flags of CLIP experiments."""

from typing import Annotated, Literal, NamedTuple

from experiments.families.data import ImageData
from experiments.families.image_flags import CropFrom
from experiments.families.representation.config import TRAINING, Probing
from experiments.families.representation.encoders import EncoderFlags
from metajax.experiment import RUN, RunFlags, Training
from metajax.experiment.bounds import (
  Bounds,
  Count,
  DataSources,
  Depth,
  NotNegative,
  Positive,
  TwoOrMore,
  Width,
  ZeroOrMore,
)
from metajax.experiment.former_flags import also
from metajax.learners.clip import Loss


class Outer(NamedTuple):
  """Batch size and optimizer."""

  batch_size: TwoOrMore = 256
  """Image-text pairs per step."""
  learning_rate: Annotated[Positive, *also("--rate")] = 1e-3
  """Peak learning rate of AdamW."""
  weight_decay: Annotated[ZeroOrMore, *also("--decay")] = 0.1
  """Weight decay of AdamW."""
  warmup_steps: Annotated[NotNegative, *also("--warmup")] = 500
  """Warmup steps of the learning rate, which then decays along a cosine."""


class TextTower(NamedTuple):
  """Text tower and tokenizer."""

  text_width: Width = 128
  """Width of the text tower, in values per token."""
  text_layers: Depth = 3
  """Layers of the text tower."""
  vocab_size: Annotated[int, Bounds(258, 2**24), *also("--vocabulary")] = 512
  """Vocabulary size of the byte-pair encoding, which is trained on the captions."""
  max_length: Annotated[int, Bounds(2, 2**16), *also("--length")] = 24
  """Maximum length of a caption, in tokens."""


class Clip(NamedTuple):
  """Towers, loss and augmentation of CLIP."""

  num_outputs: Annotated[Width, *also("--outputs")] = 128
  """Dimensions of the joint embedding."""
  loss: Loss = "info_nce"
  """Contrastive loss: InfoNCE, or the sigmoid loss of SigLIP."""
  augmentation: Annotated[Literal["auto", "none", "crop", "affine"], *also("--augment")] = "auto"
  """Augmentation of the training images; auto is affine for glyphs, crop for other data."""
  crop_from: CropFrom = "auto"
  """Images that are cropped: original files, tested on their centers, or resized ones; auto: files from 128 pixels."""
  chunk: Annotated[int | None, *Count.__metadata__] = None
  """Rows per chunk of a tower without batch statistics; by default the full batch."""
  permuted: bool = False
  """Assign each class the captions of another class, a control that does not transfer."""
  encoder: EncoderFlags = EncoderFlags("conv4")
  text: TextTower = TextTower()


class Setup(NamedTuple):
  """Flags of a CLIP experiment, apart from those of the learner."""

  data: ImageData = ImageData()
  outer: Outer = Outer()
  training: Training = TRAINING
  probing: Probing = Probing()
  run: RunFlags = RUN
  mix: DataSources = ()
  """Weights of several sources to train on, a=0.7 b=0.3, that of --data first; --data a=0.7 b=0.3 is short for it."""
