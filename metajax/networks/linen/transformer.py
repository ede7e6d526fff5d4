"""Shared parts of image and text transformers: the layer, its size, and details that differ between models."""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from metajax import checks
from metajax.networks.matmul import dot_general
from metajax.types import Array, Cache


class Size(NamedTuple):
  """The size of a transformer.

  Attributes:
    width: Values per token.
    num_layers: Number of layers.
    num_heads: Number of attention heads.
    hidden: Hidden units of the MLPs; by default 4 times the width.
  """

  width: int
  num_layers: int
  num_heads: int
  hidden: int | None = None

  @property
  def mlp_width(self) -> int:
    """Hidden units of the MLPs."""
    return 4 * self.width if self.hidden is None else self.hidden


Activation = Literal["gelu", "tanh_gelu", "quick_gelu"]


class Details(NamedTuple):
  """Details that differ between published transformers.

  Attributes:
    activation: Activation of the MLPs: exact "gelu"; "tanh_gelu", GPT-2's approximation; or CLIP's "quick_gelu",
      `x sigmoid(1.702 x)`.
    epsilon: Epsilon of the norms.
    patch_bias: Whether the patch embedding has a bias.
    first_norm: Whether tokens are normalized before the first layer.
    deviation: Standard deviation of initial matrices, divided by `sqrt(2 num_layers)` at the end of a residual branch;
      None for LeCun's initialization, `1 / sqrt(inputs)`.
    gated: Whether the MLPs are SwiGLUs (arXiv:2002.05202): `silu(a) b`, instead of an activation.
    layer_scale: Initial factor of each value of a residual branch, a parameter (arXiv:2103.17239); by default none.
    registers: Tokens without a position next to the class token (arXiv:2309.16588).
  """

  activation: Activation
  epsilon: float
  patch_bias: bool
  first_norm: bool
  deviation: float | None = None
  gated: bool = False
  layer_scale: float | None = None
  registers: int = 0


VIT = Details("gelu", 1e-6, True, False)  # arXiv:2010.11929
CLIP = Details("quick_gelu", 1e-5, False, True)  # arXiv:2103.00020, the released models
SIGLIP = Details("tanh_gelu", 1e-6, True, False)  # arXiv:2303.15343, the released models
GPT2 = Details("tanh_gelu", 1e-5, True, False, 0.02)  # Radford et al. 2019, the released models
ACTIVATIONS = {
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "tanh_gelu": jax.nn.gelu,
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


class Attention(nn.Module):
  """Multi-head attention (arXiv:1706.03762) over tokens `[n, tokens, width]`.

  With `causal`, a token attends to itself and to earlier tokens. `cache` is `(keys, values, place)`, with keys and
  values `[n, max_length, num_heads, d]` of earlier tokens; the new ones are written at `place`. `readers` are other
  tokens `[n, readers, width]` that attend to these, by default these themselves. Results have the tokens' width, or
  `num_outputs` values.
  """

  size: Size
  dtype: DTypeLike
  details: Details
  num_outputs: int | None = None

  @nn.compact
  def __call__(self, tokens, causal=False, cache=None, readers=None):
    shape = (self.size.num_heads, self.size.width // self.size.num_heads)
    given = {"query": tokens if readers is None else readers, "key": tokens, "value": tokens}
    query, key, value = (
      nn.DenseGeneral(shape, dtype=self.dtype, dot_general=dot_general, kernel_init=start(self.details), name=name)(x)
      for name, x in given.items()
    )
    mask = None
    if cache is not None:
      *before, place = cache
      key, value = (
        lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), place, 1)
        for old, new in zip(before, (key, value), strict=True)
      )
      mask = (jnp.arange(key.shape[1]) <= place + jnp.arange(tokens.shape[1])[:, None])[None, None]
    attended = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=causal and cache is None)
    last = start(self.details, self.size.num_layers)
    outputs = self.size.width if self.num_outputs is None else self.num_outputs
    out = nn.DenseGeneral(
      outputs, axis=(-2, -1), dtype=self.dtype, dot_general=dot_general, kernel_init=last, name="out"
    )
    return out(attended), (key, value)


class Layer(nn.Module):
  """A pre-norm transformer layer: attention over the tokens `[n, tokens, width]`, then an MLP on each.

  Returns the tokens, and the keys and values for the cache.
  """

  size: Size
  dropout: float
  dtype: DTypeLike
  details: Details = VIT

  @nn.compact
  def __call__(self, tokens, train, causal=False, cache=None):
    def drop():
      return nn.Dropout(self.dropout, deterministic=not train)

    attention = Attention(self.size, self.dtype, self.details, name="attention")
    attended, seen = attention(norm(self, "before_attention")(tokens), causal, cache)
    tokens = tokens + self._scaled("attention_scale", drop()(attended))
    changed = perceptron(self, norm(self, "before_perceptron")(tokens))
    return tokens + self._scaled("perceptron_scale", drop()(changed)), seen

  def _scaled(self, name, branch):
    if self.details.layer_scale is None:
      return branch
    scale = self.param(name, nn.initializers.constant(self.details.layer_scale), (self.size.width,))
    return branch * scale.astype(self.dtype)


def perceptron(module: nn.Module, tokens: Array) -> Array:
  """Runs the MLP of a layer, within `__call__` of a module with `size`, `dtype` and `details`."""
  width, details = module.size.width, module.details
  hidden = module.size.mlp_width

  def dense(outputs, name, kernel_init):
    return nn.Dense(outputs, dtype=module.dtype, dot_general=dot_general, kernel_init=kernel_init, name=name)

  inner = dense(2 * hidden if details.gated else hidden, "hidden", start(details))(tokens)
  if details.gated:
    gate, inner = jnp.split(inner, 2, -1)
    inner = jax.nn.silu(gate) * inner
  else:
    inner = ACTIVATIONS[details.activation](inner)
  return dense(width, "outputs", start(details, module.size.num_layers))(inner)


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
    module: Module with `vocab_size`, `size`, `max_length`, `dropout`, `dtype` and `details`.
    tokens: Integers `[n, tokens]`; while tracing, a token outside the vocabulary makes its row NaN.
    train: As for all networks.
    cache: Cache of the earlier tokens.
    context: Vectors `[m, width]` or `[n, m, width]` in place of the embeddings of the `m` tokens after the first one.
    causal: Whether a token attends only to itself and to earlier tokens.

  Returns:
    `(states, embedding, cache)`: the input of each layer and the output of the last, `num_layers + 1` arrays
    `[n, tokens, width]`; the embeddings of the vocabulary; and the cache for the next tokens.

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


def start(details: Details, num_layers: int | None = None):
  """Returns the initializer of a matrix; `num_layers` is given for the last matrix of a residual branch (GPT-2's
  `1 / sqrt(2 num_layers)`)."""
  if details.deviation is None:
    return nn.initializers.lecun_normal()
  return nn.initializers.normal(details.deviation / (1 if num_layers is None else (2 * num_layers) ** 0.5))


def norm(module: nn.Module, name: str) -> nn.LayerNorm:
  """Makes a layer norm within a module with `dtype` and `details`."""
  return nn.LayerNorm(epsilon=module.details.epsilon, dtype=module.dtype, name=name)


def projected(module: nn.Module, pooled: Array) -> jax.Array:
  """Projects pooled tokens to the module's `num_outputs`, if any, in its `dtype`; the result has 32 bits."""
  if module.num_outputs is not None:
    pooled = nn.Dense(module.num_outputs, use_bias=False, dtype=module.dtype, name="projection")(pooled)
  return pooled.astype(jnp.float32)


def check_size(size: Size, num_outputs: int | None, dropout: float):
  """Checks the arguments that all transformers share.

  Raises:
    ValueError: if a number is out of range.
  """
  if min(size[:3]) < 1 or size.width % size.num_heads or size.mlp_width < 1:
    raise ValueError(f"expected sizes of at least 1 and a width divisible by the number of heads, got {size}")
  if num_outputs is not None and num_outputs < 1:
    raise ValueError(f"expected at least 1 output, or None, got {num_outputs}")
  if not 0 <= dropout < 1:
    raise ValueError(f"expected a dropout of at least 0 and below 1, got {dropout}")
