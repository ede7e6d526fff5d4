"""Next-token pre-training of text: GPT (Radford et al. 2018, 2019)."""

import numbers

import jax
import jax.numpy as jnp
import numpy as np

from metajax.compose.combinators import check_networks
from metajax.learners._checks import check_predictor
from metajax.losses import linear_cross_entropy, linear_log_prob
from metajax.predictors import nearest_centroid
from metajax.types import Array, Decoded, EmbedFn, Learner, Network, Params, Predictor, State


def gpt(network: Network, *, layer: int | None = None, predictor: Predictor = nearest_centroid) -> Learner:
  """GPT: learns to predict the next token of a text (Radford et al. 2018, 2019).

      minimize  mean over i of -log p(t_i | t_0 .. t_{i-1}),   p = softmax(features_{i-1} @ output_embedding.T)

  A batch is integer tokens `[n, length + 1]`: the first of each row, a start of text, is given, the others are
  predicted. A row may end early in padding, -1, which weighs nothing. The network rejects other negative tokens, which
  make the loss NaN under tracing. The logits of a large vocabulary are never in memory together. Metrics hold the
  "bits" per token.

  Args:
    network: Tokens `[n, length]` to `Decoded`, such as `networks.decoder(tokenizer.vocabulary)`.
    layer: Layer whose features `embed` averages: the input of layer `layer`, from 0, or the output of the last layer,
      if `layer` is the number of layers; by default the features that predict the next token.
    predictor: Few-shot predictor on the embedding.

  Returns:
    A Learner whose `embed` takes at most `length` tokens a row and returns the mean `[n, d]` over these of their
    features at `layer`, each normalized to mean 0 and deviation 1, as every layer normalizes them.

  Raises:
    TypeError: If `network` is not a Network, or `predictor` not a function.
    ValueError: At init, if the batch is not integers `[n, length + 1]`, from -1 to the vocabulary, with -1 only at the
      end of a row.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import learners, networks
    >>> from metajax.networks.linen.transformer import Size
    >>> learner = learners.gpt(networks.decoder(vocab_size=10, size=Size(4, 1, 2)))
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), jnp.zeros((8, 17), int))
    >>> jax.eval_shape(learner.embed, params, state, jnp.zeros((8, 16), int)).shape
    (8, 4)
  """
  check_networks(network=network)
  check_predictor(predictor)

  def init(key, batch):
    _check(batch)
    params, state = network.init(key, jnp.zeros((len(batch), batch.shape[1] - 1), jnp.int32))
    decoded = decoded_shapes(network, params, state, readable(batch[:, :-1]))
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
  """Log-probabilities of tokens: `(params, state, tokens [n, length + 1]) -> [n, length]`, in nats.

  Each is conditional on all earlier tokens of the row; padding has 0.
  """

  def log_probability(params, state, tokens):
    decoded, _ = network.apply(params, state, readable(tokens[:, :-1]), train=False)
    return linear_log_prob(decoded.features, decoded.output_embedding, tokens[:, 1:])

  return log_probability


def decoded_shapes(network: Network, params: Params, state: State, tokens: Array) -> Decoded:
  """The shapes of what a network returns for tokens.

  Raises:
    ValueError: If it is no `Decoded`.
  """
  decoded = jax.eval_shape(lambda: network.apply(params, state, tokens, train=False)[0])
  if not hasattr(decoded, "output_embedding"):
    raise ValueError(f"expected a network that returns (Decoded, state), got {type(decoded).__name__} for Decoded")
  return decoded


def readable(tokens: Array) -> Array:
  """Tokens with padding, -1, replaced by token 0, which weighs nothing. The network rejects other negative tokens."""
  return jnp.where((tokens < 0) & (tokens + 1 == 0), 0, tokens)


def mean_features(features: Array, there: Array) -> Array:
  """The mean of normalized features over the tokens that are not padding: `[n, length, d], [n, length] -> [n, d]`."""
  features = features.astype(jnp.float32)
  centered = features - features.mean(-1, keepdims=True)
  normal = centered * jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-6)
  weights = there / jnp.maximum(there.sum(-1, keepdims=True), 1)
  return jnp.einsum("nl,nld->nd", weights, normal)


def check_layer(layer: int | None, layers: tuple):
  """Raises unless a network has the layer.

  Raises:
    ValueError: With the layers of the network.
  """
  if layer is not None and not (isinstance(layer, numbers.Integral) and 0 <= layer < len(layers)):
    known = f"a layer from 0 to {len(layers) - 1}, or None" if layers else "layer=None for a network without layers"
    raise ValueError(f"expected {known}, got {layer}")


def _check(batch):
  if not hasattr(batch, "shape") or not jnp.issubdtype(batch.dtype, jnp.integer) or batch.ndim != 2:
    given = f"{batch.dtype} {list(batch.shape)}" if hasattr(batch, "shape") else f"a {type(batch).__name__}"
    raise ValueError(f"expected integer tokens [n, length + 1], got {given}")
  if batch.shape[1] < 2:
    raise ValueError(f"expected at least 2 tokens per row, one given and one to predict, got {batch.shape[1]}")
  if isinstance(batch, jax.core.Tracer):
    return
  batch = np.asarray(batch)
  if batch.min() < -1 or ((batch[:, :-1] < 0) & (batch[:, 1:] >= 0)).any():
    raise ValueError(f"expected tokens of at least 0, with -1 only after the end of a row's text, got {batch.min()}")
