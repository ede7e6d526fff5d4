"""The decoder-only transformer (GPT-2, Radford et al. 2019), of text and of pixels alike."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.transformer import GPT2, Details, Size, check_size, norm, read
from metajax.types import Decoded, Network

SIZES = {"gpt2": Size(768, 12, 12), "medium": Size(1024, 24, 16), "large": Size(1280, 36, 20), "xl": Size(1600, 48, 25)}


def decoder(
  vocab_size: int,
  size: str | Size = "gpt2",
  max_length: int = 1024,
  *,
  dropout: float = 0.0,
  dtype: DTypeLike = jnp.float32,
  details: Details = GPT2,
) -> Network:
  """A causal transformer that says what follows each token: integers `[n, tokens]`, and perhaps a cache, to `Decoded`.

  A token attends to those before it and to itself. The vectors that tokens are embedded by are those that features are
  compared with. Of a vocabulary of 50,257 there are 124,439,808 (gpt2), 354,823,168 (medium), 774,030,080 (large) and
  1,557,611,200 (xl) parameters, the published numbers. Layers are those of CLIP's text tower.

  Args:
    vocab_size: how many tokens there are.
    size: "gpt2", "medium", "large", "xl" or a `Size`: values of a token, layers, attention heads.
    max_length: tokens of the longest sequence.
    dropout: of the embedded tokens, and of attention's and perceptrons' outputs, while training with a key.
    dtype: of products and activations, such as bfloat16; params are float32, and so are the norms' statistics.
    details: in which published transformers differ.

  Raises:
    ValueError: if an argument is out of range; when applied, if tokens are not integers `[n, tokens]` of at most
      `max_length` tokens.
  """
  if isinstance(size, str) and size not in SIZES:
    raise ValueError(f"expected a size of {', '.join(map(repr, SIZES))} or a Size, got {size!r}")
  size = SIZES[size] if isinstance(size, str) else size
  check_size(size, None, dropout)
  if vocab_size < 2 or max_length < 1:
    raise ValueError(
      f"expected a vocabulary of at least 2 and a length of at least 1, got {vocab_size} and {max_length}"
    )
  return from_linen(_Decoder(vocab_size, size, max_length, dropout, dtype, details))


class _Decoder(nn.Module):
  vocab_size: int
  size: Size
  max_length: int
  dropout: float
  dtype: DTypeLike
  details: Details

  @nn.compact
  def __call__(self, tokens, cache=None, *, train):
    states, output_embedding, cache = read(self, tokens, train, cache)
    return Decoded(norm(self, "norm")(states[-1]), output_embedding, tuple(states), cache)
