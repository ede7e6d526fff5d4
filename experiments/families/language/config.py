"""Flags of language models, in groups."""

from typing import Annotated, NamedTuple

from experiments.families.data import ImageData
from experiments.families.representation.config import TRAINING, Outer
from metajax.experiment import RUN, RunFlags, Training
from metajax.experiment.bounds import Bounds
from metajax.experiment.former_flags import also


class Text(NamedTuple):
  """The texts' tokens."""

  vocab_size: Annotated[int, Bounds(258, 2**24), *also("--vocabulary")] = 4096
  """Tokens of the byte-pair encoding, which is trained on the texts."""
  max_length: Annotated[int, Bounds(2, 2**16), *also("--length")] = 64
  """Tokens of a row; a longer text goes on in the next one."""
  prompts: tuple[str, ...] = ()
  """Texts to go on with, of long ones the end, half of --length; by default beginnings of the test."""


class Setup(NamedTuple):
  """What a language model has beside its network."""

  data: ImageData = ImageData()
  outer: Outer = Outer(optimizer="adamw")
  training: Training = TRAINING
  run: RunFlags = RUN
