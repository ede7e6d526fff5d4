"""The text transformer of SigLIP."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.layers import Remat, check_remat
from metajax.networks.linen.reading import read
from metajax.networks.linen.transformer import SIGLIP, Details, Size, check_size, norm
from metajax.types import Network


def siglip_text(
  vocab_size: int,
  size: Size,
  max_length: int = 64,
  *,
  num_outputs: int | None = None,
  dropout: float = 0.0,
  dtype: DTypeLike = jnp.float32,
  details: Details = SIGLIP,
  remat: Remat = "none",
  scan: bool = False,
) -> Network:
  """SigLIP's text tower, a transformer pooled at its last position (arXiv:2303.15343): `[n, tokens] -> [n, width]`.

  Every token attends to all others, padding too, and the output is the last position's, after a final norm and a linear
  map with bias. So a text means the same only with the same padding: published models expect texts padded to
  `max_length` by their tokenizer's padding token. While tracing, when tokens are not known, a row with a token outside
  the vocabulary becomes NaN.

  Args:
    vocab_size: Number of tokens.
    size: Width, number of layers and number of attention heads.
    max_length: Maximum number of tokens per text.
    num_outputs: Outputs of the final linear map, by default the width.
    dropout: Dropout rate of embedded tokens and of attention and MLP outputs, active in training with a key.
    dtype: Type of products and activations, e.g. bfloat16; params and norm statistics are float32.
    details: Differences between published transformers.
    remat, scan: As for `vision_transformer`.

  Returns:
    A Network from integer tokens `[n, tokens]` to `[n, num_outputs]`.

  Raises:
    ValueError: if an argument is out of range; at init and when applied, if tokens are not integers `[n, tokens]` of 1
      to `max_length` tokens; when applied, if a token is outside the vocabulary.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.networks import Size, siglip_text
    >>> network, tokens = siglip_text(32000, Size(768, 12, 12)), jnp.ones([2, 64], int)
    >>> jax.eval_shape(lambda: network.apply(*network.init(jax.random.key(0), tokens), tokens, train=False))[0].shape
    (2, 768)
  """
  check_size(size, num_outputs, dropout)
  check_remat(remat)
  if min(vocab_size, max_length) < 1:
    raise ValueError(f"expected a vocabulary and a length of at least 1, got {vocab_size} and {max_length}")
  outputs = size.width if num_outputs is None else num_outputs
  return from_linen(_SiglipText(vocab_size, size, max_length, outputs, dropout, dtype, details, remat, scan))


class _SiglipText(nn.Module):
  vocab_size: int
  size: Size
  max_length: int
  num_outputs: int
  dropout: float
  dtype: DTypeLike
  details: Details
  remat: Remat
  scan: bool

  @nn.compact
  def __call__(self, tokens, *, train):
    if tokens.ndim == 2 and not tokens.shape[1]:
      raise ValueError(f"expected tokens [n, tokens] of at least 1 token, got {list(tokens.shape)}")
    *_, states = read(self, tokens, train, causal=False)[0]
    head = nn.Dense(self.num_outputs, dtype=self.dtype, name="head")
    return head(norm(self, "norm")(states[:, -1])).astype(jnp.float32)
