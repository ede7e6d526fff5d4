"""What the configs of experiments have in common, as types."""

from typing import Protocol

from experiments.families.data import ImageData
from metajax.experiment import RunFlags, Training


class DataConfig(Protocol):
  """The config of an experiment on data, which has flags of its own beside these."""

  @property
  def data(self) -> ImageData: ...

  @property
  def training(self) -> Training: ...

  @property
  def run(self) -> RunFlags: ...
