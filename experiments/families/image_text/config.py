"""Flags of CLIP experiments, in groups."""

from typing import Annotated, Literal, NamedTuple

from experiments.families.data import ImageData
from experiments.families.representation.config import TRAINING, Probing
from experiments.families.representation.encoders import EncoderFlags
from metajax.experiment import RUN, RunFlags, Training
from metajax.experiment.bounds import Bounds, Count, Depth, NotNegative, Positive, TwoOrMore, Width, ZeroOrMore
from metajax.experiment.former_flags import also
from metajax.learners.clip import Loss


class Outer(NamedTuple):
  """The batches, and AdamW."""

  batch_size: TwoOrMore = 256
  """Pairs in a step."""
  learning_rate: Annotated[Positive, *also("--rate")] = 1e-3
  """Highest learning rate of AdamW."""
  weight_decay: Annotated[ZeroOrMore, *also("--decay")] = 0.1
  """Weight decay."""
  warmup_steps: Annotated[NotNegative, *also("--warmup")] = 500
  """Steps over which the learning rate rises; after them it falls along a cosine."""


class TextTower(NamedTuple):
  """The text tower and its tokens."""

  text_width: Width = 128
  """Values of a token."""
  text_layers: Depth = 3
  """Layers of the text tower."""
  vocab_size: Annotated[int, Bounds(258, 2**24), *also("--vocabulary")] = 512
  """Tokens of the byte-pair encoding, which is trained on the captions."""
  max_length: Annotated[int, Bounds(2, 2**16), *also("--length")] = 24
  """Tokens of the longest caption."""


class Clip(NamedTuple):
  """The learner: its towers, its loss, and what it sees."""

  num_outputs: Annotated[Width, *also("--outputs")] = 128
  """Values of an embedding."""
  loss: Loss = "info_nce"
  """info_nce, or siglip."""
  augmentation: Annotated[Literal["auto", "none", "crop", "affine"], *also("--augment")] = "auto"
  """Augmentation of the training images; auto is affine for glyphs, crop for other data."""
  chunk: Annotated[int | None, *Count.__metadata__] = None
  """Rows that a tower without batch statistics computes at once; by default all."""
  permuted: bool = False
  """Give each class the captions of another: what is then learned does not transfer."""
  encoder: EncoderFlags = EncoderFlags("conv4")
  text: TextTower = TextTower()


class Setup(NamedTuple):
  """What a CLIP experiment has beside its learner."""

  data: ImageData = ImageData()
  outer: Outer = Outer()
  training: Training = TRAINING
  probing: Probing = Probing()
  run: RunFlags = RUN
