"""The transformer over tokens that is CLIP's text tower."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from metajax import checks
from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.transformer import VIT, Details, Size, check_size, norm, projected, read
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
) -> Network:
  """A causal transformer over tokens, read at the end of the text (arXiv:2103.00020): `[n, tokens] -> [n, width]`.

  A token attends to those before it. The output is that of the first end-of-text token, after a last norm, so what
  follows it, padding, has no say, and shorter rows cost less: as many positions are used as there are tokens. While
  tracing, where tokens are not known, a row without an end of text, or with a token outside the vocabulary, is NaN.

  Args:
    vocab_size: how many tokens there are; the last one is the end of text, as a `data.Tokenizer` has it.
    size: values of a token, layers, attention heads.
    max_length: tokens of the longest text.
    num_outputs: of a linear map without bias on top, such as CLIP's projection; by default there is none.
    dropout: of the embedded tokens, and of attention's and perceptrons' outputs, while training with a key.
    dtype: of products and activations, such as bfloat16; params are float32, and so are the norms' statistics.
    details: in which published transformers differ; `transformer.CLIP` are those of CLIP.

  Raises:
    ValueError: if an argument is out of range; at init, if tokens are not integers `[n, tokens]` of at most
      `max_length` tokens; when applied, if one is outside the vocabulary, or a row has no end of text.
  """
  check_size(size, num_outputs, dropout)
  if vocab_size < 2 or max_length < 2:
    raise ValueError(f"expected a vocabulary and a length of at least 2, got {vocab_size} and {max_length}")
  return from_linen(_TextTransformer(vocab_size, size, max_length, num_outputs, dropout, dtype, details))


class _TextTransformer(nn.Module):
  vocab_size: int
  size: Size
  max_length: int
  num_outputs: int | None
  dropout: float
  dtype: DTypeLike
  details: Details

  @nn.compact
  def __call__(self, tokens, train):
    *_, embedded = read(self, tokens, train)[0]
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
