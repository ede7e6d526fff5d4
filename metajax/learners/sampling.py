"""Sequences from a decoder, a token at a time."""

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Decoded, Key, Network, Params, State

NEVER = -1e30  # the logit of a token that may not come


def sample(
  network: Network,
  params: Params,
  state: State,
  key: Key,
  prompt: Array,
  steps: int,
  *,
  temperature: float = 1.0,
  top_k: int | None = None,
  top_p: float | None = None,
  tokens: int | None = None,
  end: int | None = None,
  cached: bool = True,
) -> Array:
  """Goes on with prompts, each token drawn from `softmax(logits / temperature)`: `[n, given] -> [n, given + steps]`.

  Args:
    network: tokens to `Decoded`, such as `networks.decoder`.
    params, state: of the trained network.
    key: of the draws.
    prompt: integers `[n, given]`, at least one token each, such as the start of text.
    steps: tokens to add.
    temperature: at least 0; 0 takes the likeliest token.
    top_k: only the so many likeliest tokens may come.
    top_p: only the likeliest tokens that together have at least this probability (arXiv:1904.09751), in (0, 1].
    tokens: only the first so many of the vocabulary may come.
    end: after this token a sequence has ended: -1 follows.
    cached: keys and values of earlier tokens are kept, so that a step costs one token; the network takes and gives a
      cache. Otherwise the whole sequence is read at each step; the draws are the same.

  Raises:
    ValueError: if an argument is out of range, or prompts are not integers `[n, given]`.
  """
  prompt = jnp.asarray(prompt)
  _check(prompt, steps, temperature, top_k, top_p, tokens)
  draw = lambda key, logits: next_token(key, logits, temperature, top_k, top_p)
  given, total = prompt.shape[1], prompt.shape[1] + steps
  keys = jax.random.split(key, steps) if steps else ()
  whole = jnp.pad(prompt, ((0, 0), (0, steps)))
  read = lambda rows, *cache: network.apply(params, state, rows, *cache, train=False)[0]

  def put(whole, place, key, logits):
    new = draw(key, logits if tokens is None else logits[:, :tokens])
    if end is not None:
      last = lax.dynamic_index_in_dim(whole, place - 1, 1, keepdims=False)
      began = place > given
      new = jnp.where(began & ((last == end) | (last < 0)), -1, new)
    return lax.dynamic_update_index_in_dim(whole, new.astype(whole.dtype), place, 1)

  if not steps:
    return prompt
  if cached:
    first = read(prompt)
    if first.cache is None:
      raise ValueError("expected a network that keeps a cache, got one without: cached=False")
    more = lambda x: jnp.pad(x, ((0, 0), (0, steps - 1), *[(0, 0)] * (x.ndim - 2)))
    cache = first.cache._replace(seen=jax.tree.map(more, first.cache.seen))
    whole = put(whole, given, keys[0], _logits(first, given - 1))

    def step(carry, one):
      (whole, cache), (place, key) = carry, one
      last = jnp.maximum(lax.dynamic_index_in_dim(whole, place - 1, 1), 0)
      decoded = read(last, cache)
      return (put(whole, place, key, _logits(decoded, 0)), decoded.cache), None

    return lax.scan(step, (whole, cache), (jnp.arange(given + 1, total), keys[1:]))[0][0]

  def step(whole, one):
    place, key = one
    return put(whole, place, key, _logits(read(jnp.maximum(whole[:, :-1], 0)), place - 1)), None

  return lax.scan(step, whole, (jnp.arange(given, total), keys))[0]


def next_token(key: Key, logits: Array, temperature=1.0, top_k: int | None = None, top_p: float | None = None) -> Array:
  """A token drawn for each row of logits: `[n, vocabulary] -> integers [n]`. Arguments are those of `sample`."""
  if temperature == 0:
    return jnp.argmax(logits, -1)
  logits = logits / temperature
  if top_k is not None and top_k < logits.shape[-1]:
    logits = jnp.where(logits < lax.top_k(logits, top_k)[0][:, -1:], NEVER, logits)
  if top_p is not None:
    order = jnp.argsort(-logits, -1)
    falling = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
    kept = jnp.cumsum(falling, -1) - falling < top_p  # those before it do not suffice
    logits = jnp.where(jnp.take_along_axis(kept, jnp.argsort(order, -1), -1), logits, NEVER)
  return jax.random.categorical(key, logits)


def _logits(decoded: Decoded, place) -> Array:
  """Of the token that follows the one at a place: `[n, vocabulary]`."""
  features = lax.dynamic_index_in_dim(decoded.features, place, 1, keepdims=False)
  return features.astype(jnp.float32) @ decoded.vectors.T


def _check(prompt, steps, temperature, top_k, top_p, tokens):
  if prompt.ndim != 2 or prompt.shape[1] < 1 or not jnp.issubdtype(prompt.dtype, jnp.integer):
    raise ValueError(f"expected prompts, integers [n, given], got {prompt.dtype} {list(prompt.shape)}")
  least = {"steps": (steps, 0), "top_k": (top_k, 1), "tokens": (tokens, 1)}
  for name, (value, lowest) in least.items():
    if value is not None and value < lowest:
      raise ValueError(f"expected {name} of at least {lowest}, got {value}")
  if temperature < 0 or (top_p is not None and not 0 < top_p <= 1):
    raise ValueError(f"expected a temperature of at least 0 and top_p in (0, 1], got {temperature} and {top_p}")
