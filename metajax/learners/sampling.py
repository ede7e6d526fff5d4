"""Sampling of sequences from a decoder, one token at a time."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.tree import wide
from metajax.types import Array, Cache, Decoded, Key, Network, Params, State

NEVER = -1e30  # the logit of an excluded token
LEAST_TEMPERATURE = float(jnp.finfo(jnp.float32).tiny)  # division by a smaller number gives NaN


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
  """Continues prompts by tokens drawn from `softmax(logits / temperature)`: `[n, given] -> [n, given + steps]`.

  Compiles once per network, number of steps, sampling options (Python numbers) and shape of prompts.

  Args:
    network: Tokens to `Decoded`, such as `networks.decoder`.
    params, state: Parameters and state of the trained network.
    key: Key of the draws.
    prompt: Integers `[n, given]`, at least one token each, such as the start of a text.
    steps: Number of tokens to add.
    temperature: Finite number of at least 0; 0, or any number below the smallest normal float32, is greedy decoding.
    top_k: Number of likeliest tokens to draw from.
    top_p: Probability of the smallest set of likeliest tokens to draw from (arXiv:1904.09751), in (0, 1].
    tokens: Number of tokens, the first of the vocabulary, to draw from.
    end: End-of-sequence token; after it, -1 fills the sequence.
    cached: Whether keys and values of earlier tokens are kept, so that a step costs one token; the network must take
      and return a cache. Otherwise each step reads the full sequence; the draws are the same.

  Returns:
    Prompts and added tokens, integers `[n, given + steps]`; -1 where logits are NaN, under tracing only.

  Raises:
    ValueError: If an argument is out of range, prompts are not integers `[n, given]` of the vocabulary, or the result
      is too long for the network.
    FloatingPointError: If the network's logits are NaN, naming rows.
  """
  prompt = jnp.asarray(prompt)
  check_sampling(temperature, top_k, top_p)
  _check(prompt, steps, tokens, end)
  prompt = prompt.astype(jnp.promote_types(prompt.dtype, jnp.int32))  # to hold every token, and -1
  if not steps:
    return prompt
  vocab_size = len(jax.eval_shape(lambda p: network.apply(params, state, p, train=False)[0], prompt).output_embedding)
  largest = {"an end": end, "tokens, the last of them,": tokens and tokens - 1}
  if not isinstance(prompt, jax.core.Tracer):
    largest["prompts"] = int(prompt.max(initial=0))
  for name, value in largest.items():
    if value is not None and value >= vocab_size:
      raise ValueError(f"expected {name} below {vocab_size}, the network's vocabulary, got {value}")
  how = steps, float(temperature), top_k, top_p, tokens, end, cached
  run = _compiled(network, *how)  # ty: ignore[invalid-argument-type]  functions are hashable, which no Protocol states
  found, unknown = run(params, state, key, prompt)
  if checks.is_concrete(unknown):
    checks.finite("the logits of sequences", jnp.where(unknown, jnp.nan, 0.0), error=FloatingPointError)
  return found


@functools.lru_cache(maxsize=64)
def _compiled(network, steps, temperature, top_k, top_p, tokens, end, cached):
  """The compiled `_sample`, one per network and sampling options."""
  return jax.jit(functools.partial(_sample, network, steps, temperature, top_k, top_p, tokens, end, cached))


def _sample(network, steps, temperature, top_k, top_p, tokens, end, cached, params, state, key, prompt):
  given, total = prompt.shape[1], prompt.shape[1] + steps
  keys = jax.random.split(key, steps)
  whole = jnp.pad(prompt, ((0, 0), (0, steps)))

  def read(rows, *cache):
    return network.apply(params, state, rows, *cache, train=False)[0]

  def shown(rows):
    return jnp.where(jnp.arange(rows.shape[1]) < given, rows, jnp.maximum(rows, 0))

  def put(so_far, place, key, logits):
    whole, unknown = so_far
    new = next_token(key, logits if tokens is None else logits[:, :tokens], temperature, top_k, top_p)
    ended = jnp.zeros(len(whole), bool)
    if end is not None:
      last = lax.dynamic_index_in_dim(whole, place - 1, 1, keepdims=False)
      ended = (place > given) & ((last == end) | (last < 0))
    unknown |= ~ended & (new < 0)
    new = jnp.where(ended, -1, new).astype(whole.dtype)
    return lax.dynamic_update_index_in_dim(whole, new, place, 1), unknown

  so_far = whole, jnp.zeros(len(whole), bool)
  if not cached:

    def step(so_far, one):
      place, key = one
      return put(so_far, place, key, _logits(read(shown(so_far[0][:, :-1])), place - 1)), None

    return lax.scan(step, so_far, (jnp.arange(given, total), keys))[0]

  first = read(prompt)
  if first.cache is None:
    raise ValueError("expected a network that keeps a cache, got one without: use cached=False")
  so_far = put(so_far, given, keys[0], _logits(first, given - 1))

  def step(carry, one):
    (so_far, cache), (place, key) = carry, one
    last = jnp.maximum(lax.dynamic_index_in_dim(so_far[0], place - 1, 1), 0)
    decoded = read(last, cache)
    return (put(so_far, place, key, _logits(decoded, 0)), decoded.cache), None

  # The last token need not be read.
  return lax.scan(step, (so_far, longer(first.cache, steps - 1)), (jnp.arange(given + 1, total), keys[1:]))[0][0]


def longer(cache: Cache, tokens: int) -> Cache:
  """A cache with room for `tokens` more tokens."""
  seen = jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, tokens), *[(0, 0)] * (x.ndim - 2))), cache.seen)
  return cache._replace(seen=seen)


def next_token(
  key: Key, logits: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
  """Draws one token per row of logits: `[n, vocab_size] -> integers [n]`. Arguments are those of `sample`.

  A row that holds NaN, or whose largest logit is infinite, gives -1.

  Raises:
    ValueError: If an argument is out of range, or logits are not floating `[n, vocab_size]`.
  """
  check_sampling(temperature, top_k, top_p)
  checks.floating("logits", logits, "n", "vocabulary")
  largest = logits.max(-1, keepdims=True)
  drawn = _drawn(key, wide(logits), largest, temperature, top_k, top_p)
  return jnp.where(jnp.isfinite(largest[:, 0]), drawn, -1)


def _drawn(key, logits, largest, temperature, top_k, top_p):
  if temperature < LEAST_TEMPERATURE:
    return jnp.argmax(logits, -1)
  kept = None
  if top_k is not None and top_k < logits.shape[-1]:
    kept = jnp.zeros(logits.shape, bool).at[jnp.arange(len(logits))[:, None], lax.top_k(logits, top_k)[1]].set(True)
  logits = (logits - largest) / temperature  # the largest is 0; others may become -inf, which is never drawn
  if kept is not None:
    logits = jnp.where(kept, logits, NEVER)
  if top_p is not None:
    order = jnp.argsort(-logits, -1)
    falling = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
    kept = jnp.cumsum(falling, -1) - falling < top_p  # likelier tokens have less than top_p together
    logits = jnp.where(jnp.take_along_axis(kept, jnp.argsort(order, -1), -1), logits, NEVER)
  return jax.random.categorical(key, logits)


def _logits(decoded: Decoded, place) -> Array:
  """The logits `[n, vocab_size]` of the token after a position."""
  features = lax.dynamic_index_in_dim(decoded.features, place, 1, keepdims=False)
  return features.astype(jnp.float32) @ decoded.output_embedding.T


def check_sampling(temperature: float, top_k: int | None, top_p: float | None):
  """Checks the sampling options of `sample`.

  Raises:
    ValueError: If one is out of range.
  """
  if top_k is not None:
    checks.count("top_k", top_k)
  checks.scalar("a temperature", temperature)
  if not 0 <= temperature < math.inf:
    raise ValueError(f"expected a temperature of at least 0, and finite, got {temperature}")
  if top_p is not None:
    checks.scalar("top_p", top_p)
    if not 0 < top_p <= 1:
      raise ValueError(f"expected top_p in (0, 1], got {top_p}")


def _check(prompt, steps, tokens, end):
  if prompt.ndim != 2 or prompt.shape[1] < 1 or not jnp.issubdtype(prompt.dtype, jnp.integer):
    raise ValueError(f"expected prompts, integers [n, given], got {prompt.dtype} {list(prompt.shape)}")
  if not isinstance(prompt, jax.core.Tracer) and prompt.size and prompt.min() < 0:
    raise ValueError(f"expected prompts without padding, got a token {prompt.min()}")
  for name, value, least in (("steps", steps, 0), ("tokens", tokens, 1), ("end", end, 0)):
    if value is not None or name == "steps":
      checks.count(name, value, least)
