"""Flags of transformers and of sampling, shared by several families."""

from typing import Annotated, NamedTuple

from experiments.families.representation.encoders import dtype_of, layers_of
from metajax.experiment.bounds import BELOW_1, LARGEST, Bounds, Count, Depth, Fraction, Width
from metajax.experiment.former_flags import also
from metajax.learners.sampling import check_sampling
from metajax.networks.linen.layers import Remat
from metajax.networks.linen.transformer import Size


class Transformer(NamedTuple):
  """Transformer."""

  width: Width = 128
  """Width of the transformer, in values per token."""
  num_layers: Annotated[Depth, *also("--layers")] = 4
  """Layers of the transformer."""
  num_heads: Annotated[Width, *also("--heads")] = 4
  """Attention heads per layer of the transformer."""
  dropout: Annotated[float, Bounds(0, BELOW_1)] = 0.0
  """Dropout rate in training, at least 0 and below 1."""
  bfloat16: bool | None = None
  """Compute in bfloat16; by default only on an accelerator."""
  remat: Remat = "none"
  """Parts of a transformer layer that the gradient computes again; dots, the least on accelerators, spares products."""

  @property
  def size(self) -> Size:
    """The size, as an argument of networks."""
    return Size(self.width, self.num_layers, self.num_heads)

  @property
  def how(self) -> dict:
    """The remaining arguments of networks."""
    return {"dropout": self.dropout, "dtype": dtype_of(self.bfloat16), **layers_of(self.remat)}


class Sampling(NamedTuple):
  """Samples on the run's page."""

  temperature: Annotated[float, Bounds(0, LARGEST)] = 1.0
  """Sampling temperature; 0 is greedy decoding."""
  top_k: Annotated[int | None, *Count.__metadata__] = None
  """Number of most likely tokens to sample from; by default all."""
  top_p: Annotated[float | None, *Fraction.__metadata__] = 0.95
  """Total probability of the most likely tokens to sample from (nucleus sampling), above 0 and at most 1."""

  @property
  def said(self) -> str:
    """Description of the sampling for captions."""
    limits = [f"temperature {self.temperature:g}"]
    limits += [
      f"{name.replace('_', '-')} {value:g}" for name, value in self._asdict().items() if name != "temperature" and value
    ]
    return ", ".join(limits)

  def check(self):
    """Refuses invalid sampling arguments.

    Raises:
      ValueError: naming the argument that is out of range.
    """
    check_sampling(*self)
