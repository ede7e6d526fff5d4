"""Flags of transformers and of what is drawn from them, which several families share."""

from typing import Annotated, NamedTuple

from experiments.families.representation.encoders import dtype_of
from metajax.experiment.bounds import BELOW_1, LARGEST, Bounds, Count, Depth, Fraction, Width
from metajax.experiment.former_flags import also
from metajax.learners.sampling import check_sampling
from metajax.networks.linen.transformer import Size


class Transformer(NamedTuple):
  """The transformer."""

  width: Width = 128
  """Values of a token."""
  num_layers: Annotated[Depth, *also("--layers")] = 4
  """Layers of the transformer."""
  num_heads: Annotated[Width, *also("--heads")] = 4
  """Heads of attention."""
  dropout: Annotated[float, Bounds(0, BELOW_1)] = 0.0
  """Dropout in training."""
  bfloat16: bool | None = None
  """Compute in bfloat16; by default where there is an accelerator."""

  @property
  def size(self) -> Size:
    """Its size, as networks take it."""
    return Size(self.width, self.num_layers, self.num_heads)

  @property
  def how(self) -> dict:
    """The other arguments of networks."""
    return {"dropout": self.dropout, "dtype": dtype_of(self.bfloat16)}


class Sampling(NamedTuple):
  """What is drawn for the page."""

  temperature: Annotated[float, Bounds(0, LARGEST)] = 1.0
  """Of samples on the page."""
  top_k: Annotated[int | None, *Count.__metadata__] = None
  """Of samples: only the so many likeliest tokens."""
  top_p: Annotated[float | None, *Fraction.__metadata__] = 0.95
  """Of samples: only the likeliest tokens of this probability together."""

  @property
  def said(self) -> str:
    """In words."""
    limits = [f"temperature {self.temperature:g}"]
    limits += [
      f"{name.replace('_', '-')} {value:g}" for name, value in self._asdict().items() if name != "temperature" and value
    ]
    return ", ".join(limits)

  def check(self):
    """Refuses what does not fit each other.

    Raises:
      ValueError: naming it.
    """
    check_sampling(*self)
