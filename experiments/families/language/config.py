"""Flags of language models, in groups."""

from typing import Annotated, NamedTuple, Protocol

from experiments.families.protocols import DataConfig
from experiments.families.representation.config import Outer
from experiments.families.transformers import Sampling, Transformer
from metajax.experiment import Training
from metajax.experiment.bounds import Bounds

TRAINING = Training(seeds_at_once=1)


class Text(NamedTuple):
  """The texts' tokens."""

  vocabulary: Annotated[int, Bounds(258, 2**24)] = 4096
  """Tokens of the byte-pair encoding, which is trained on the texts."""
  length: Annotated[int, Bounds(2, 2**16)] = 64
  """Tokens of a row; a longer text goes on in the next one."""
  prompts: tuple[str, ...] = ()
  """Texts to go on with, of long ones the end, half of --length; by default beginnings of the test."""


class LanguageConfig(DataConfig, Protocol):
  """The config of a language model."""

  @property
  def transformer(self) -> Transformer: ...

  @property
  def text(self) -> Text: ...

  @property
  def sampling(self) -> Sampling: ...

  @property
  def outer(self) -> Outer: ...
