"""Image GPT (Chen et al. 2020, Generative Pretraining from Pixels): autoregressive modeling of pixel colors."""

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.augment.palette import to_palette
from metajax.compose.combinators import check_networks
from metajax.learners._checks import check_predictor, check_views, inputs_of
from metajax.learners.gpt import check_layer, mean_features
from metajax.losses import linear_cross_entropy, linear_log_prob
from metajax.predictors import nearest_centroid
from metajax.types import AnyArray, Array, Decoded, EmbedFn, Examples, Key, Learner, Network, Params, Predictor, State


def image_gpt(
  network: Network,
  palette: AnyArray,
  size: int = 16,
  *,
  layer: int | None = None,
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """Image GPT: learns to predict the pixels of small images in reading order, as indices of palette colors.

      minimize  mean over i of -log p(x_i | start, x_0 .. x_{i-1}),   x = augment.palette.to_palette(image)

  A batch is images `[n, h, w, c]` in [0, 1], or `Examples` of them, whose labels only mark padding (an all-zero row).
  The palette is part of the state, and so of checkpoints. Metrics hold the "bits" per pixel. To sample new images:

      params, state = trained.params["encoder"], trained.state["encoder"]
      start = jnp.full((n, 1), len(palette))
      tokens = sample(network, params, state["network"], key, start, size**2, tokens=len(palette))
      images = augment.palette.from_palette(tokens[:, 1:], palette)

  Args:
    network: Tokens `[n, size^2]` to `Decoded`, with one token per color and a start token, the last one:
      `networks.decoder(palette_size + 1, ..., max_length=size**2)`.
    palette: Colors `[colors, c]` in [0, 1], such as the result of `data.fit_palette`.
    size: Side length of the images in pixels.
    layer: Layer of `embed`, as for `gpt`; by default the middle one.
    predictor: Few-shot predictor on the embedding.

  Returns:
    A Learner whose `embed` is that of `pixel_encoder`.

  Raises:
    TypeError: If `network` is not a Network, or `predictor` not a function.
    ValueError: At init, if the batch is not finite or not in [0, 1], or if palette and images differ in channels, or
      network and palette in the number of tokens.
  """
  check_predictor(predictor)
  encoder = pixel_encoder(network, palette, size, layer=layer)

  def init(key, batch):
    images = inputs_of(batch)
    check_views(images, least=1)
    params, state = encoder.init(key, images)
    return {"encoder": params}, {"encoder": state}

  def loss(params, state, batch, key):
    params, state = params["encoder"], state["encoder"]
    tokens, decoded, state = read_images(network, params, state, inputs_of(batch), size, train=True, key=key)
    there = batch.labels.any(-1, keepdims=True) if isinstance(batch, Examples) else jnp.ones((len(tokens), 1))
    weights = jnp.broadcast_to(there, tokens.shape)
    value = linear_cross_entropy(decoded.features, _colors(decoded), tokens, weights=weights)
    return value, ({"encoder": state}, {"bits": value / jnp.log(2)})

  def embed(params, state, inputs):
    return encoder.apply(params["encoder"], state["encoder"], inputs, train=False)[0]

  return Learner(init, loss, embed, predictor(embed))


def pixel_encoder(network: Network, palette: AnyArray, size: int = 16, *, layer: int | None = None) -> Network:
  """The mean over pixels of a decoder layer's features: `[n, h, w, c] -> [n, d]`.

  The features of each pixel are first normalized to mean 0 and deviation 1, as in the next layer's input. Middle layers
  embed best; choose the layer on validation data. Arguments and errors are those of `image_gpt`. Params are the
  network's; the state is `{"network": the network's, "palette": [colors, c]}`.
  """
  check_networks(network=network)
  checks.count("size", size)
  palette = jnp.asarray(palette, jnp.float32)
  if not (palette.min() >= 0 and palette.max() <= 1):
    raise ValueError(f"expected a palette from 0 to 1, got values from {palette.min():g} to {palette.max():g}")

  def init(key, images):
    if palette.ndim != 2 or palette.shape[1] != images.shape[-1]:
      given = f"{list(palette.shape)} and images {list(images.shape)}"
      raise ValueError(f"expected a palette [colors, channels] of the images' channels, got {given}")
    tokens = jnp.zeros((images.shape[0], size * size), jnp.int32)
    params, state = network.init(key, tokens)
    decoded = jax.eval_shape(lambda: network.apply(params, state, tokens, train=False)[0])
    if len(decoded.output_embedding) != len(palette) + 1:
      given = f"{len(decoded.output_embedding)} for {len(palette)} colors"
      raise ValueError(f"expected a network with one token per color and one for the start, got {given}")
    check_layer(layer, decoded.layers)
    return params, {"network": state, "palette": jnp.array(palette)}  # a copy: training may donate the buffer

  def apply(params, state, images, *, train, key=None):
    tokens, decoded, state = read_images(network, params, state, images, size, train=train, key=key)
    chosen = (len(decoded.layers) - 1) // 2 if layer is None else layer
    features = decoded.layers[chosen] if decoded.layers else decoded.features
    return mean_features(features, jnp.ones(tokens.shape)), state

  return Network(init, apply)


def pixel_log_prob(network: Network, size: int = 16) -> EmbedFn:
  """Log-probabilities of a trained `image_gpt`: `(params, state, images [n, h, w, c]) -> [n, size^2]`, in nats.

  Each pixel's is conditional on all earlier pixels.
  """

  def log_probability(params, state, images):
    tokens, decoded, _ = read_images(network, params["encoder"], state["encoder"], images, size, train=False)
    return linear_log_prob(decoded.features, _colors(decoded), tokens)

  return log_probability


def read_images(
  network: Network, params: Params, state: State, images: AnyArray, size: int, *, train: bool, key: Key | None = None
):
  """Pixels as color indices `[n, size^2]`, the decoder's output for the tokens before each, and the new state.

  Params and state are those of a `pixel_encoder`.
  """
  tokens = to_palette(images, state["palette"], size)
  inputs = after_start(tokens, len(state["palette"]))
  decoded, own = network.apply(params, state["network"], inputs, train=train, key=key)
  return tokens, decoded, state | {"network": own}


def after_start(tokens: Array, start: int) -> Array:
  """The decoder's inputs: the start token, then all tokens but the last."""
  return jnp.concatenate([jnp.full_like(tokens[:, :1], start), tokens[:, :-1]], 1)


def _colors(decoded: Decoded) -> Array:
  """The output embedding without the start token, which is not a color."""
  return decoded.output_embedding[:-1]
