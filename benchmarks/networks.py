"""A small image transformer in plain JAX, as an alternative to convolutions in an inner loop."""

import jax
import jax.numpy as jnp

from metajax.networks import matmul
from metajax.types import Array, Network

TOKENS, HEADS = 16, 4


def transformer(blocks: int = 4, width: int = 128, *, remat: bool = False) -> Network:
  """Pre-norm transformer on an image read row by row as 16 tokens, with mean pooling: `[n, h, w, c] -> [n, width]`.

  Args:
    blocks: Number of blocks of attention (4 heads, no bias) and a perceptron (4 times as wide, tanh form of GELU).
    width: Values per token.
    remat: Keep only the inputs of each block for the backward pass.

  Returns:
    The network.

  Raises:
    ValueError: at init, if 16 does not divide the number of values of an image.
  """

  def init(key, images):
    values = images[0].size
    if values % TOKENS:
      raise ValueError(f"expected images with a multiple of {TOKENS} values, got shape {images.shape[1:]}")
    matrix = lambda key, rows, columns: jax.random.normal(key, (rows, columns)) / rows**0.5
    norm = lambda: {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
    keys = iter(jax.random.split(key, 2 + 4 * blocks))
    params = {
      "embed": matrix(next(keys), values // TOKENS, width),
      "position": 0.02 * jax.random.normal(next(keys), (TOKENS, width)),
      "norm": norm(),
    }
    for i in range(blocks):
      params[f"block_{i}"] = {
        "norm_1": norm(),
        "attend": matrix(next(keys), width, 3 * width),
        "mix": matrix(next(keys), width, width),
        "norm_2": norm(),
        "up": matrix(next(keys), width, 4 * width),
        "up_bias": jnp.zeros(4 * width),
        "down": matrix(next(keys), 4 * width, width),
        "down_bias": jnp.zeros(width),
      }
    return params, {}

  run = jax.checkpoint(_block) if remat else _block

  def apply(params, state, images, *, train, key=None):
    tokens = matmul(images.reshape(len(images), TOKENS, -1), params["embed"]) + params["position"]
    for i in range(blocks):
      tokens = run(params[f"block_{i}"], tokens)
    return _normalized(params["norm"], tokens).mean(1), state

  return Network(init, apply)


def _block(params, tokens: Array) -> Array:
  """`[n, tokens, width] -> [n, tokens, width]`."""
  n, count, width = tokens.shape
  split = matmul(_normalized(params["norm_1"], tokens), params["attend"]).reshape(n, count, 3, HEADS, width // HEADS)
  # The derivative of a split is a concatenation; that of a slice is a sum of padded arrays.
  query, key, value = (part[:, :, 0].swapaxes(1, 2) for part in jax.lax.split(split, [1] * 3, 2))
  weights = jax.nn.softmax(query @ key.swapaxes(2, 3) / (width // HEADS) ** 0.5)
  tokens = tokens + matmul((weights @ value).swapaxes(1, 2).reshape(n, count, width), params["mix"])
  hidden = jax.nn.gelu(
    matmul(_normalized(params["norm_2"], tokens), params["up"]) + params["up_bias"], approximate=True
  )
  return tokens + matmul(hidden, params["down"]) + params["down_bias"]


def _normalized(params, tokens):
  centered = tokens - tokens.mean(-1, keepdims=True)
  return (
    centered * jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-5) * params["scale"] + params["bias"]
  )
