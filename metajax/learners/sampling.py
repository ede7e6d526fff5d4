"""Sequences from a decoder, a token at a time."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Cache, Decoded, Key, Network, Params, State

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

  It is compiled once for each network, number of steps, way to draw, in Python's numbers, and shape of prompts.

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
    ValueError: if an argument is out of range, prompts are not integers `[n, given]` of the vocabulary, or they and
      what is added are too long for the network.
  """
  prompt = jnp.asarray(prompt)
  check_sampling(temperature, top_k, top_p)
  _check(prompt, steps, tokens)
  if not steps:
    return prompt
  vocabulary = len(jax.eval_shape(lambda: network.apply(params, state, prompt, train=False)[0]).vectors)
  largest = {"an end": end, "tokens, the last of them,": tokens and tokens - 1}
  if not isinstance(prompt, jax.core.Tracer):
    largest["prompts"] = int(prompt.max(initial=0))
  for name, value in largest.items():
    if value is not None and value >= vocabulary:
      raise ValueError(f"expected {name} below {vocabulary}, the network's vocabulary, got {value}")
  return _compiled(network, steps, temperature, top_k, top_p, tokens, end, cached)(params, state, key, prompt)


@functools.lru_cache(maxsize=64)
def _compiled(network, steps, temperature, top_k, top_p, tokens, end, cached):
  """Compiled once for each way to sample and shape of prompts."""
  return jax.jit(functools.partial(_sample, network, steps, temperature, top_k, top_p, tokens, end, cached))


def _sample(network, steps, temperature, top_k, top_p, tokens, end, cached, params, state, key, prompt):
  given, total = prompt.shape[1], prompt.shape[1] + steps
  keys = jax.random.split(key, steps)
  whole = jnp.pad(prompt, ((0, 0), (0, steps)))
  read = lambda rows, *cache: network.apply(params, state, rows, *cache, train=False)[0]

  def put(whole, place, key, logits):
    new = next_token(key, logits if tokens is None else logits[:, :tokens], temperature, top_k, top_p)
    if end is not None:
      last = lax.dynamic_index_in_dim(whole, place - 1, 1, keepdims=False)
      began = place > given
      new = jnp.where(began & ((last == end) | (last < 0)), -1, new)
    return lax.dynamic_update_index_in_dim(whole, new.astype(whole.dtype), place, 1)

  if not cached:

    def step(whole, one):
      place, key = one
      return put(whole, place, key, _logits(read(jnp.maximum(whole[:, :-1], 0)), place - 1)), None

    return lax.scan(step, whole, (jnp.arange(given, total), keys))[0]

  first = read(prompt)
  if first.cache is None:
    raise ValueError("expected a network that keeps a cache, got one without: cached=False")
  whole = put(whole, given, keys[0], _logits(first, given - 1))

  def step(carry, one):
    (whole, cache), (place, key) = carry, one
    last = jnp.maximum(lax.dynamic_index_in_dim(whole, place - 1, 1), 0)
    decoded = read(last, cache)
    return (put(whole, place, key, _logits(decoded, 0)), decoded.cache), None

  # The last token is not read.
  return lax.scan(step, (whole, longer(first.cache, steps - 1)), (jnp.arange(given + 1, total), keys[1:]))[0][0]


def longer(cache: Cache, tokens: int) -> Cache:
  """A cache with room for so many tokens more."""
  room = lambda x: jnp.pad(x, ((0, 0), (0, tokens), *[(0, 0)] * (x.ndim - 2)))
  return cache._replace(seen=jax.tree.map(room, cache.seen))


def next_token(key: Key, logits: Array, temperature=1.0, top_k: int | None = None, top_p: float | None = None) -> Array:
  """A token drawn for each row of logits: `[n, vocabulary] -> integers [n]`. Arguments are those of `sample`."""
  if temperature == 0:
    return jnp.argmax(logits, -1)
  logits = logits / temperature
  if top_k is not None and top_k < logits.shape[-1]:
    kept = jnp.zeros(logits.shape, bool).at[jnp.arange(len(logits))[:, None], lax.top_k(logits, top_k)[1]].set(True)
    logits = jnp.where(kept, logits, NEVER)
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


def check_sampling(temperature: float, top_k: int | None, top_p: float | None):
  """Looks at how tokens are to be drawn.

  Raises:
    ValueError: if an argument of `sample` is out of range.
  """
  if top_k is not None and top_k < 1:
    raise ValueError(f"expected top_k of at least 1, got {top_k}")
  if not temperature >= 0 or (top_p is not None and not 0 < top_p <= 1):
    raise ValueError(f"expected a temperature of at least 0 and top_p in (0, 1], got {temperature} and {top_p}")


def _check(prompt, steps, tokens):
  if prompt.ndim != 2 or prompt.shape[1] < 1 or not jnp.issubdtype(prompt.dtype, jnp.integer):
    raise ValueError(f"expected prompts, integers [n, given], got {prompt.dtype} {list(prompt.shape)}")
  if not isinstance(prompt, jax.core.Tracer) and prompt.size and prompt.min() < 0:
    raise ValueError(f"expected prompts without padding, got a token {prompt.min()}")
  for name, value, lowest in (("steps", steps, 0), ("tokens", tokens, 1)):
    if value is not None and value < lowest:
      raise ValueError(f"expected {name} of at least {lowest}, got {value}")
