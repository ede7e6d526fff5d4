"""Shared parts of image and text transformers: the layer, its size, and details that differ between models."""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from metajax.networks.matmul import dot_general
from metajax.types import Array


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
