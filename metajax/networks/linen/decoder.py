"""The decoder-only transformer (GPT-2, Radford et al. 2019), for text and for pixels."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.layers import Remat, check_remat
from metajax.networks.linen.reading import read
from metajax.networks.linen.transformer import GPT2, Details, Size, check_size, norm
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
  remat: Remat = "none",
  scan: bool = False,
) -> Network:
  """A causal transformer that predicts the token after each token.

  A token attends to itself and to earlier tokens. Input and output embeddings are tied. With a vocabulary of 50,257 the
  parameters number 124,439,808 (gpt2), 354,823,168 (medium), 774,030,080 (large) and 1,557,611,200 (xl), as published.
  The layers are the same as in CLIP's text tower.

  Args:
    vocab_size: Number of tokens.
    size: "gpt2", "medium", "large", "xl" or a `Size`: width, number of layers and number of attention heads.
    max_length: Maximum number of tokens per sequence.
    dropout: Dropout rate of embedded tokens and of attention and MLP outputs, active in training with a key.
    dtype: Type of products and activations, e.g. bfloat16; params and norm statistics are float32.
    details: Differences between published transformers.
    remat, scan: As for `vision_transformer`.

  Returns:
    A Network from integer tokens `[n, tokens]`, and optionally a cache, to `Decoded`.

  Raises:
    ValueError: if an argument is out of range; when applied, if tokens are not integers `[n, tokens]` of at most
      `max_length` tokens.
  """
  if isinstance(size, str) and size not in SIZES:
    raise ValueError(f"expected a size of {', '.join(map(repr, SIZES))} or a Size, got {size!r}")
  size = SIZES[size] if isinstance(size, str) else size
  check_size(size, None, dropout)
  check_remat(remat)
  if vocab_size < 2 or max_length < 1:
    raise ValueError(
      f"expected a vocabulary of at least 2 and a length of at least 1, got {vocab_size} and {max_length}"
    )
  return from_linen(Decoder(vocab_size, size, max_length, dropout, dtype, details, remat, scan))


class Decoder(nn.Module):
  """A transformer with tied embeddings of tokens; one that is not causal keeps no cache."""

  vocab_size: int
  size: Size
  max_length: int
  dropout: float
  dtype: DTypeLike
  details: Details
  remat: Remat
  scan: bool
  causal: bool = True

  @nn.compact
  def __call__(self, tokens, cache=None, *, train):
    if cache is not None and not self.causal:
      raise ValueError("expected no cache for a network in which tokens attend to later ones, got one")
    states, output_embedding, cache = read(self, tokens, train, cache, causal=self.causal)
    return Decoded(norm(self, "norm")(states[-1]), output_embedding, tuple(states), cache if self.causal else None)
