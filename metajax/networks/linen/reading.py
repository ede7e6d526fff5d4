"""Runs a text transformer on tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.networks.linen.layers import run_layers
from metajax.networks.linen.transformer import Layer
from metajax.types import Array, Cache


def read(
  module: nn.Module,
  tokens: Array,
  train: bool,
  cache: Cache | None = None,
  context: Array | None = None,
  causal: bool = True,
) -> tuple[list[Array], Array, Cache]:
  """Runs a text transformer on tokens, within `__call__` of its module.

  Args:
    module: Module with `vocab_size`, `size`, `max_length`, `dropout`, `dtype`, `details`, `remat` and `scan`.
    tokens: Integers `[n, tokens]`; while tracing, a token outside the vocabulary makes its row NaN.
    train: As for all networks.
    cache: Cache of the earlier tokens.
    context: Vectors `[m, width]` or `[n, m, width]` in place of the embeddings of the `m` tokens after the first one.
    causal: Whether a token attends only to itself and to earlier tokens.

  Returns:
    `(states, embedding, cache)`: the input of each layer and the output of the last, `num_layers + 1` arrays
    `[n, tokens, width]`; the embeddings of the vocabulary; and the cache for the next tokens, empty in training.

  Raises:
    ValueError: if tokens are not integers `[n, tokens]` of the vocabulary, of at most `max_length` tokens, the context
      does not fit them, or the cache is longer than that or has no room for them. If that is unknown while tracing,
      the states become NaN.
  """
  if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer) or tokens.shape[1] > module.max_length:
    given = f"{tokens.dtype} {list(tokens.shape)}"
    raise ValueError(f"expected integer tokens [n, tokens], of at most {module.max_length} tokens, got {given}")
  checks.integers("tokens", tokens, low=0, high=module.vocab_size)
  room = module.max_length if cache is None else _room(module, tokens, cache)
  place = jnp.zeros((), jnp.int32) if cache is None else cache.place
  embedded, table = _embedded(module, tokens, place, room, context)
  embedded = nn.Dropout(module.dropout, deterministic=not train)(embedded)
  if train and cache is None:
    return run_layers(module, embedded, train, causal), table, Cache((), place)
  states, seen = [embedded], []
  for i in range(module.size.num_layers):
    layer = Layer(module.size, module.dropout, module.dtype, module.details, name=f"layer_{i}")
    before = None if cache is None else (*cache.seen[i], place)
    embedded, pair = layer(states[-1], train, causal, before)
    states, seen = [*states, embedded], [*seen, pair]
  return states, table, Cache(tuple(seen), place + tokens.shape[1])


def _embedded(
  module: nn.Module, tokens: Array, place: Array, room: int, context: Array | None
) -> tuple[jax.Array, Array]:
  """Embeds tokens from a place on, with their positions; returns them, and the embeddings of the vocabulary."""
  width, (_, count) = module.size.width, tokens.shape
  table = nn.Embed(
    module.vocab_size, width, dtype=module.dtype, embedding_init=nn.initializers.normal(0.02), name="tokens"
  )
  positions = module.param("positions", nn.initializers.normal(0.01), (module.max_length, width))
  tokens = tokens.astype(jnp.promote_types(tokens.dtype, jnp.int32))  # the vocabulary may exceed 8 or 16 bits
  known = (tokens >= 0) & (tokens < module.vocab_size)
  embedded = jnp.where(known[..., None], table(tokens), jnp.nan)
  embedded = embedded if context is None else _with_context(embedded, context)
  embedded = embedded + lax.dynamic_slice_in_dim(positions, place, count).astype(module.dtype)
  embedded = jnp.where(place + count <= room, embedded, jnp.nan)  # a full cache is not overwritten silently
  return embedded, table.embedding


def _with_context(embedded: Array, context: Array) -> Array:
  """Replaces the embeddings `[n, tokens, width]` after the first token."""
  checks.floating("context", context, *embedded.shape[:1] * (context.ndim == 3), "m", embedded.shape[2])
  most = embedded.shape[1] - 2  # the start and the end of text stay
  if context.shape[-2] > most:
    raise ValueError(f"expected at most {most} context vectors between {most + 2} tokens, got {context.shape[-2]}")
  context = jnp.broadcast_to(context, (len(embedded), *context.shape[-2:])).astype(embedded.dtype)
  return lax.dynamic_update_slice(embedded, context, (0, 1, 0))


def _room(module, tokens, cache: Cache) -> int:
  """Returns the number of tokens that a cache can hold; raises if the new tokens do not fit."""
  room = jax.tree.leaves(cache.seen)[0].shape[1]
  if room > module.max_length:
    raise ValueError(f"expected at most {module.max_length} tokens in total, got a cache of {room}")
  if not isinstance(cache.place, jax.core.Tracer) and cache.place + tokens.shape[1] > room:
    given = f"{tokens.shape[1]} after {cache.place} in a cache of {room}"
    raise ValueError(f"expected room for all tokens, got {given}: make it longer first (learners.longer)")
  return room
