"""Groups of flags of language models."""

from typing import Annotated, NamedTuple

from experiments.families.data import ImageData
from experiments.families.representation.config import TRAINING, Outer, check
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


def check_setup(setup: Setup, name: str):
  """Refuses inconsistent flags of a language model before texts are read.

  Raises:
    ValueError: naming the flag.
  """
  check(setup.training, setup.outer.batch_size, setup.outer.warmup_steps, ())
  if setup.outer.optimizer != "adamw":
    raise ValueError(f"expected --optimizer adamw for {name}, got {setup.outer.optimizer!r}")


def check_batch_size(setup: Setup, number: int, things: str):
  """Refuses a batch of more than all training rows.

  Raises:
    ValueError: naming the flag.
  """
  if setup.outer.batch_size > number:
    raise ValueError(f"expected a --batch-size of at most all {number} {things}, got {setup.outer.batch_size}")
