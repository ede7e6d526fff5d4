"""CLIP (arXiv:2103.00020) and SigLIP (arXiv:2303.15343): images and texts in one embedding space.

A tower in `compose.chunked` makes large batches exact on small memory. A tower in `compose.frozen`, of pretrained
params (`compose.with_pretrained_params`), is locked (LiT, arXiv:2111.07991);
`optax.selective_transform(optimizer, freeze_mask)` keeps weight decay off it.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.augment import augment_batch
from metajax.compose.combinators import check_networks
from metajax.learners._checks import check_augmentation, check_views
from metajax.losses import info_nce, logit_scale, siglip
from metajax.losses.contrastive import START_LOG_SCALE
from metajax.predictors.logits import centroid_cosines
from metajax.similarity import unit_rows
from metajax.types import Array, Augmentation, Inputs, Learner, Network, Pair

Loss = Literal["info_nce", "siglip"]
START = {  # initial values of the learned parameters outside the towers
  "info_nce": {"log_scale": START_LOG_SCALE},
  "siglip": {"log_scale": 2.302585092994046, "bias": -10.0},  # ln 10, and the paper's initial bias
}


def clip(
  image: Network, text: Network, loss: Loss = "info_nce", *, augmentation: Augmentation | None = None
) -> Learner:
  """CLIP: learns a joint embedding of images and texts by contrasting all pairs of a batch (arXiv:2103.00020).

      minimize  info_nce(image(x), text(t), scale)

  A batch is a `Pair` of images `[n, h, w, c]` in [0, 1] and integer tokens `[n, length]`. All rows of the global batch
  are each other's negatives. The scale of the cosines is learned; it starts at 1/0.07 and is at most 100
  (`train.keep_params_below(LARGEST_LOG_SCALE, "log_scale")` bounds the parameter itself). Params are
  `{"image": ..., "text": ..., "log_scale": ...}`.

  Args:
    image: Images to `[n, d]`.
    text: Tokens to `[n, d]`.
    loss: "info_nce", softmax over the batch in both directions, or "siglip", a sigmoid of every pair, with a learned
      `bias`, from a scale of 10 and a bias of -10; this scale has no bound.
    augmentation: Training augmentation `(key, image) -> image` of the same size, such as
      `augment.image.random_resized_crop()`.

  Returns:
    A Learner. `embed` maps images, or integer tokens, to unit rows `[n, d]`. `predict` is zero-shot: the support of a
    class is its prompts (tokens) or images, whose mean embedding is normalized; a logit is `scale` times the cosine.

  Raises:
    TypeError: If a tower is not a Network, or `augmentation` not a function.
    ValueError: If `loss` is unknown; at init, if the batch is not a `Pair` of at least two images, finite and in
      [0, 1], and as many rows of integer tokens, or the towers differ in output width.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Pair, compose, learners, networks
    >>> text = compose.with_preprocessing(networks.mlp((4,), 2), lambda tokens: jax.nn.one_hot(tokens, 10).sum(0))
    >>> learner = learners.clip(networks.mlp((4,), 2), text)
    >>> batch = Pair(jnp.zeros((8, 16, 16, 3)), jnp.zeros((8, 5), int))  # images and tokens
    >>> sorted(jax.eval_shape(learner.init, jax.random.key(0), batch)[0])
    ['image', 'log_scale', 'text']
  """
  check_networks(image=image, text=text)
  checks.choice("loss", loss, Loss)
  check_augmentation("augmentation", augmentation)

  def init(key, batch):
    _check(batch)
    params, state = _init_towers(image, text, key, batch)
    return params | {name: jnp.float32(x) for name, x in START[loss].items()}, state

  def embed(params, state, inputs: Inputs) -> Array:
    checks.not_bytes("images", inputs)  # their integers would count as tokens
    name, tower = ("text", text) if jnp.issubdtype(inputs.dtype, jnp.integer) else ("image", image)
    return unit_rows(tower.apply(params[name], state[name], inputs, train=False)[0])

  def predict(params, state, support, inputs):
    support_features, query_features = embed(params, state, support.inputs), embed(params, state, inputs)
    return _scale(loss, params) * centroid_cosines(support_features, support.labels, query_features)

  return Learner(init, functools.partial(_contrast, image, text, loss, augmentation), embed, predict)


def _contrast(image, text, loss, augmentation, params, state, batch, key):
  """The loss of a batch, with the mean cosine of its pairs and the scale as metrics."""
  view_key, *keys = jax.random.split(key, 3)
  seen = batch.first if augmentation is None else augment_batch(augmentation, view_key, batch.first)
  first, image_state = image.apply(params["image"], state["image"], seen, train=True, key=keys[0])
  second, text_state = text.apply(params["text"], state["text"], batch.second, train=True, key=keys[1])
  scale = _scale(loss, params)
  value = info_nce(first, second, scale) if loss == "info_nce" else siglip(first, second, scale, params["bias"])
  alignment = jnp.mean((unit_rows(first) * unit_rows(second)).sum(-1))
  return value, ({"image": image_state, "text": text_state}, {"alignment": alignment, "scale": scale})


def _scale(loss: Loss, params) -> Array:
  """The factor of the cosines: CLIP's is at most 100, SigLIP's has no bound; published ones are about 117."""
  return jnp.exp(params["log_scale"]) if loss == "siglip" else logit_scale(params["log_scale"])


def _init_towers(image, text, key, batch):
  towers = tuple(zip((image, text), jax.random.split(key), batch, strict=True))
  _check_widths(*(_width(*tower) for tower in towers))
  made = [network.init(own, inputs) for network, own, inputs in towers]
  return {"image": made[0][0], "text": made[1][0]}, {"image": made[0][1], "text": made[1][1]}


def _width(network, key, inputs) -> tuple[int, ...]:
  """The shape of a tower's outputs, with tokens checked and nothing compiled."""
  return jax.eval_shape(lambda: network.apply(*network.init(key, inputs), inputs, train=False)[0]).shape


def _check_widths(first, second):
  if first != second or len(first) != 2:
    raise ValueError(f"expected towers of one width, [n, d], got {list(first)} and {list(second)}")


def _check(batch):
  if not isinstance(batch, Pair):
    raise ValueError(f"expected a Pair of images and tokens, got a {type(batch).__name__}")
  images, tokens = batch
  check_views(images)
  if not jnp.issubdtype(tokens.dtype, jnp.integer) or tokens.ndim != 2 or len(tokens) != len(images):
    given = f"{tokens.dtype} {list(tokens.shape)}"
    raise ValueError(f"expected integer tokens [{len(images)}, length], one row per image, got {given}")
