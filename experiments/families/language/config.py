"""Groups of flags of language models."""

from typing import Annotated, NamedTuple

from experiments.families.data import ImageData
from experiments.families.representation.config import TRAINING, Outer
from metajax.experiment import RUN, RunFlags, Training
from metajax.experiment.bounds import Bounds
from metajax.experiment.former_flags import also


class Text(NamedTuple):
  """Tokenization and prompts."""

  vocab_size: Annotated[int, Bounds(258, 2**24), *also("--vocabulary")] = 4096
  """Vocabulary size of the byte-pair encoding, which is trained on the texts."""
  max_length: Annotated[int, Bounds(2, 2**16), *also("--length")] = 64
  """Length of a row, in tokens; a longer text continues in the next row."""
  prompts: tuple[str, ...] = ()
  """Prompts to complete, cut to their last max_length / 2 tokens; by default beginnings of test texts."""


class Setup(NamedTuple):
  """Flags of a language model, apart from those of the network."""

  data: ImageData = ImageData()
  outer: Outer = Outer(optimizer="adamw")
  training: Training = TRAINING
  run: RunFlags = RUN
