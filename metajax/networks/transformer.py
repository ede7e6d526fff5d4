"""What transformers of pictures and of text have in common: a layer, a size, and the details in which they differ."""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Size(NamedTuple):
  """Of a transformer: values of a token, layers, attention heads."""

  width: int
  layers: int
  heads: int


class Details(NamedTuple):
  """In which published transformers differ.

  Attributes:
    activation: of the perceptrons: "gelu", exact, or CLIP's "quick_gelu", `x sigmoid(1.702 x)`.
    epsilon: of the norms.
    patch_bias: whether the map of patches to tokens has a bias.
    first_norm: whether tokens are normalised before the first layer too.
  """

  activation: Literal["gelu", "quick_gelu"]
  epsilon: float
  patch_bias: bool
  first_norm: bool


VIT = Details("gelu", 1e-6, True, False)  # arXiv:2010.11929
CLIP = Details("quick_gelu", 1e-5, False, True)  # arXiv:2103.00020, the released models
ACTIVATIONS = {
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


class Layer(nn.Module):
  """A pre-norm layer of a transformer: attention over the tokens `[n, tokens, width]`, then a perceptron on each."""

  size: Size
  dropout: float
  dtype: jnp.dtype
  details: Details = VIT

  @nn.compact
  def __call__(self, tokens, train, mask=None):
    width = self.size.width
    drop = lambda: nn.Dropout(self.dropout, deterministic=not train)
    attention = nn.MultiHeadDotProductAttention(self.size.heads, dtype=self.dtype, name="attention")
    tokens = tokens + drop()(attention(norm(self, "before_attention")(tokens), mask=mask))
    hidden = nn.Dense(4 * width, dtype=self.dtype, name="hidden")(norm(self, "before_perceptron")(tokens))
    hidden = ACTIVATIONS[self.details.activation](hidden)
    return tokens + drop()(nn.Dense(width, dtype=self.dtype, name="outputs")(hidden))


def norm(module, name: str) -> nn.LayerNorm:
  """A layer norm of a module with `dtype` and `details`."""
  return nn.LayerNorm(epsilon=module.details.epsilon, dtype=module.dtype, name=name)


def projected(module, pooled) -> jax.Array:
  """What a module with `outputs` and `dtype` makes of its pooled token, in 32 bits."""
  if module.outputs is not None:
    pooled = nn.Dense(module.outputs, use_bias=False, dtype=module.dtype, name="projection")(pooled)
  return pooled.astype(jnp.float32)


def check_size(size: Size, outputs: int | None, dropout: float):
  """Looks at what all transformers are made with.

  Raises:
    ValueError: if a number is out of range.
  """
  if min(size) < 1 or size.width % size.heads:
    raise ValueError(f"expected a size of at least 1, of a width that the heads divide, got {size}")
  if outputs is not None and outputs < 1:
    raise ValueError(f"expected at least 1 output, or None, got {outputs}")
  if not 0 <= dropout < 1:
    raise ValueError(f"expected a dropout of at least 0 and below 1, got {dropout}")
