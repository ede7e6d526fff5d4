"""Generative pre-training of text: what token comes next (GPT, Radford et al. 2018, 2019)."""

import numbers

import jax
import jax.numpy as jnp
import numpy as np

from metajax.compose.combinators import check_networks
from metajax.learners._checks import check_predictor
from metajax.losses import linear_cross_entropy, linear_log_prob
from metajax.predictors import nearest_centroid
from metajax.types import Array, EmbedFn, Learner, Network, Predictor


def gpt(network: Network, *, layer: int | None = None, predictor: Predictor = nearest_centroid) -> Learner:
  """Learns what token follows those before it:

      minimize  mean over i of -log p(t_i | t_0 .. t_{i-1}),   p = softmax(features_{i-1} @ output_embedding.T)

  A batch is integer tokens `[n, length + 1]`: of each row the first is given, a start of text, and the others are to be
  found; from -1 on a row is padding, which weighs nothing, whatever its length; any other negative token is refused by
  the network, and makes the loss NaN while tracing. The logits of a large vocabulary are
  never held at once. `embed` is the mean over a row's tokens of their features at a layer, each of mean 0 and deviation
  1, as every layer normalizes them; it takes what the network does, at most `length` tokens. Metrics hold the "bits" of
  a token.

  Args:
    network: tokens `[n, length]` to `Decoded`, such as `networks.decoder(tokenizer.vocabulary)`.
    layer: of `embed`: what layer `layer` starts with, from 0; the number of layers: what the last one leaves; by
      default what the tokens that follow are found by.
    predictor: of an embedding, for few-shot tasks.

  Raises:
    TypeError: if it is no Network, or `predictor` no function.
    ValueError: at init, if the batch is not integers `[n, length + 1]`, from -1 to the vocabulary, none after a -1.
  """

  check_networks(network=network)
  check_predictor(predictor)

  def init(key, batch):
    _check(batch)
    params, state = network.init(key, jnp.zeros((len(batch), batch.shape[1] - 1), jnp.int32))
    decoded = jax.eval_shape(lambda: network.apply(params, state, readable(batch[:, :-1]), train=False)[0])
    if not hasattr(decoded, "output_embedding"):
      raise ValueError(f"expected a network that gives (Decoded, state), got {type(decoded).__name__} for Decoded")
    vocab_size, known = len(decoded.output_embedding), not isinstance(batch, jax.core.Tracer)
    if known and np.max(batch) >= vocab_size:
      raise ValueError(f"expected tokens from 0 to {vocab_size - 1}, the network's vocabulary, got {np.max(batch)}")
    check_layer(layer, decoded.layers)
    return params, state

  def loss(params, state, batch, key):
    decoded, state = network.apply(params, state, readable(batch[:, :-1]), train=True, key=key)
    value = linear_cross_entropy(decoded.features, decoded.output_embedding, batch[:, 1:])
    return value, (state, {"bits": value / jnp.log(2)})

  def embed(params, state, inputs):
    there = inputs >= 0
    decoded, _ = network.apply(params, state, readable(inputs), train=False)
    return mean_features(decoded.features if layer is None else decoded.layers[layer], there)

  return Learner(init, loss, embed, predictor(embed))


def log_prob(network: Network) -> EmbedFn:
  """`(params, state, tokens [n, length + 1]) -> [n, length]`: in nats, of each token after those before it.

  Of padding it is 0.
  """

  def log_probability(params, state, tokens):
    decoded, _ = network.apply(params, state, readable(tokens[:, :-1]), train=False)
    return linear_log_prob(decoded.features, decoded.output_embedding, tokens[:, 1:])

  return log_probability


def readable(tokens: Array) -> Array:
  """Tokens with padding, -1, as token 0, which counts for nothing; other negative ones stay: a network refuses them."""
  return jnp.where((tokens < 0) & (tokens + 1 == 0), 0, tokens)


def mean_features(features: Array, there: Array) -> Array:
  """The mean over the tokens that are there of their normalized features: `[n, length, d], [n, length] -> [n, d]`."""
  features = features.astype(jnp.float32)
  centered = features - features.mean(-1, keepdims=True)
  normal = centered * jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-6)
  weights = there / jnp.maximum(there.sum(-1, keepdims=True), 1)
  return jnp.einsum("nl,nld->nd", weights, normal)


def check_layer(layer: int | None, layers: tuple):
  """Looks at whether a network has a layer.

  Raises:
    ValueError: if it has not.
  """
  if layer is not None and not (isinstance(layer, numbers.Integral) and 0 <= layer < len(layers)):
    known = f"a layer from 0 to {len(layers) - 1}, or None" if layers else "layer=None of a network without layers"
    raise ValueError(f"expected {known}, got {layer}")


def _check(batch):
  if not hasattr(batch, "shape") or not jnp.issubdtype(batch.dtype, jnp.integer) or batch.ndim != 2:
    given = f"{batch.dtype} {list(batch.shape)}" if hasattr(batch, "shape") else f"a {type(batch).__name__}"
    raise ValueError(f"expected integer tokens [n, length + 1], got {given}")
  if batch.shape[1] < 2:
    raise ValueError(f"expected at least 2 tokens a row, one given and one to be found, got {batch.shape[1]}")
  if isinstance(batch, jax.core.Tracer):
    return
  batch = np.asarray(batch)
  if batch.min() < -1 or ((batch[:, :-1] < 0) & (batch[:, 1:] >= 0)).any():
    raise ValueError(f"expected tokens of at least 0, and -1 only from the end of a row's text on, got {batch.min()}")
