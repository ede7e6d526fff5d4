"""The bidirectional text transformer (BERT, arXiv:1810.04805)."""

import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.decoder import Decoder
from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.layers import Remat, check_remat
from metajax.networks.linen.transformer import VIT, Details, Size, check_size
from metajax.types import Network

BASE = Size(768, 12, 12)


def bert(
  vocab_size: int,
  size: Size = BASE,
  max_length: int = 512,
  *,
  dropout: float = 0.0,
  dtype: DTypeLike = jnp.float32,
  details: Details = VIT,
  remat: Remat = "none",
  scan: bool = False,
) -> Network:
  """A transformer in which every token attends to all others, to predict tokens that are masked (arXiv:1810.04805).

  Input and output embeddings are tied, and norms come before attention. `learners.bert` gives each segment of text its
  own positions, so positions tell segments apart and there are no segment embeddings. Padding is a token like others.

  Args:
    vocab_size: Number of tokens, two more than the tokenizer's: padding and the mask.
    size: Width, number of layers and number of attention heads.
    max_length: Maximum number of tokens of both segments, with the three around them.
    dropout: Dropout rate of embedded tokens and of attention and MLP outputs, active in training with a key.
    dtype: Type of products and activations, e.g. bfloat16; params and norm statistics are float32.
    details: Differences between published transformers.
    remat, scan: As for `vision_transformer`.

  Returns:
    A Network from integer tokens `[n, tokens]` to `Decoded`.

  Raises:
    ValueError: if an argument is out of range; when applied, if tokens are not integers `[n, tokens]` of at most
      `max_length` tokens.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.networks import Size, bert
    >>> network, tokens = bert(4098, Size(128, 2, 2), 64), jnp.ones([2, 35], int)
    >>> params, state = jax.eval_shape(network.init, jax.random.key(0), tokens)
    >>> decoded, _ = jax.eval_shape(lambda *made: network.apply(*made, tokens, train=False), params, state)
    >>> decoded.features.shape, decoded.output_embedding.shape
    ((2, 35, 128), (4098, 128))
  """
  check_size(size, None, dropout)
  check_remat(remat)
  if vocab_size < 5 or max_length < 3:
    given = f"got {vocab_size} and {max_length}"
    raise ValueError(f"expected a vocabulary of at least 5 tokens and a length of at least 3, {given}")
  return from_linen(Decoder(vocab_size, size, max_length, dropout, dtype, details, remat, scan, causal=False))
