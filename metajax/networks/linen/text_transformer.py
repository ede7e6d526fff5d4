"""The text transformer of CLIP."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from metajax import checks
from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.layers import Remat, check_remat
from metajax.networks.linen.reading import read
from metajax.networks.linen.transformer import VIT, Details, Size, check_size, norm, projected
from metajax.types import Network

BASE = Size(512, 12, 8)  # CLIP's


def text_transformer(
  vocab_size: int,
  size: Size = BASE,
  max_length: int = 77,
  *,
  num_outputs: int | None = None,
  dropout: float = 0.0,
  dtype: DTypeLike = jnp.float32,
  details: Details = VIT,
  remat: Remat = "none",
  scan: bool = False,
) -> Network:
  """CLIP's text tower, a causal transformer pooled at the end of text (arXiv:2103.00020): `[n, tokens] -> [n, width]`.

  The output is the first end-of-text token's, after a final norm, so padding after it has no effect. Shorter batches
  cost less: only as many positions are used as the rows have tokens. While tracing, when tokens are not known, a row
  without an end of text, or with a token outside the vocabulary, becomes NaN.

  A second input, `apply(params, state, tokens, context, ...)`, is context vectors `[m, width]`, or `[n, m, width]` for
  each row, in place of the embeddings of the `m` tokens after the first one (`predictors.coop`).

  Args:
    vocab_size: Number of tokens; the last one is the end of text, as in a `data.Tokenizer`.
    size: Width, number of layers and number of attention heads.
    max_length: Maximum number of tokens per text.
    num_outputs: Outputs of a final linear map without bias, e.g. CLIP's projection; by default no such map.
    dropout: Dropout rate of embedded tokens and of attention and MLP outputs, active in training with a key.
    dtype: Type of products and activations, e.g. bfloat16; params and norm statistics are float32.
    details: Differences between published transformers; `transformer.CLIP` for CLIP.
    remat, scan: As for `vision_transformer`.

  Returns:
    A Network from integer tokens `[n, tokens]` to `[n, width]`, or `[n, num_outputs]`.

  Raises:
    ValueError: if an argument is out of range; at init, if tokens are not integers `[n, tokens]` of at most
      `max_length` tokens; when applied, if a token is outside the vocabulary, a row has no end of text, or context
      vectors are of another shape.
  """
  check_size(size, num_outputs, dropout)
  check_remat(remat)
  if vocab_size < 2 or max_length < 2:
    raise ValueError(f"expected a vocabulary and a length of at least 2, got {vocab_size} and {max_length}")
  return from_linen(_TextTransformer(vocab_size, size, max_length, num_outputs, dropout, dtype, details, remat, scan))


class _TextTransformer(nn.Module):
  vocab_size: int
  size: Size
  max_length: int
  num_outputs: int | None
  dropout: float
  dtype: DTypeLike
  details: Details
  remat: Remat
  scan: bool

  @nn.compact
  def __call__(self, tokens, context=None, *, train):
    *_, embedded = read(self, tokens, train, context=context)[0]
    ends = tokens.astype(jnp.int32) == self.vocab_size - 1
    if checks.is_concrete(tokens):
      _check_ends(np.asarray(tokens), self.vocab_size - 1)
    pooled = jnp.take_along_axis(embedded, jnp.argmax(ends, axis=-1)[:, None, None], axis=1)[:, 0]
    pooled = jnp.where(ends.any(-1, keepdims=True), pooled, jnp.nan)
    return projected(self, norm(self, "norm")(pooled))


def _check_ends(tokens, end: int):
  rows = np.flatnonzero(~(tokens == end).any(-1))
  if rows.size:
    which = ", ".join(map(str, rows[: checks.SHOWN])) + ", ..." * (rows.size > checks.SHOWN)
    given = f"none in {checks.counted(rows.size, 'row')}: {which}"
    raise ValueError(f"expected the end of text, token {end}, in every row, got {given}")
