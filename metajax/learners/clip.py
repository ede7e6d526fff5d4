"""CLIP (arXiv:2103.00020): images and texts in one space; SigLIP (arXiv:2303.15343) is the same with another loss."""

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
START = {  # of what is learned beside the towers
  "info_nce": {"log_scale": START_LOG_SCALE},
  "siglip": {"log_scale": 2.302585092994046, "bias": -10.0},  # ln 10, and the paper's start
}


def clip(
  image: Network, text: Network, loss: Loss = "info_nce", *, augmentation: Augmentation | None = None
) -> Learner:
  """Learns that an image and its own text are alike, and those of any two rows are not:

      minimize  info_nce(image(x), text(t), scale)

  over a `Pair` of images `[n, h, w, c]` in [0, 1] and tokens, integers `[n, length]`; all rows of the batch are each
  other's negatives, wherever they are on the mesh. The scale of the cosines is learned, from 1/0.07 on, and at most 100
  (`train.keep_params_below(LARGEST_LOG_SCALE, "log_scale")` keeps the parameter itself there). Params are
  `{"image": ..., "text": ..., "log_scale": ...}`.

  `embed` is of images or, if they are integers, of tokens, of length 1. `predict` is zero-shot: the support of a
  class are its prompts, tokens, whose embeddings are averaged and brought back to length 1; a logit is `scale` times
  the cosine. A support of images serves likewise.

  A tower in `compose.chunked` makes large batches exact on small memory; one in `compose.frozen`, of pretrained params
  (`compose.with_pretrained_params`), is locked (LiT, arXiv:2111.07991);
  `optax.selective_transform(optimizer, freeze_mask)` keeps weight decay off it.

  Args:
    image: images to `[n, d]`.
    text: tokens to `[n, d]`.
    loss: "info_nce", softmax over the batch in both directions; or "siglip", a sigmoid of every pair, with a learned
      `bias`, from a scale of 10 and a bias of -10.
    augmentation: `(key, image) -> image` of the same size, such as `augment.image.random_resized_crop()`, of each image
      while training.

  Raises:
    TypeError: if a tower is no Network, or `augmentation` no function.
    ValueError: if `loss` is neither; at init, if the batch is no `Pair` of as many images, finite and in [0, 1], and
      integer tokens, at least two, or the towers' outputs differ in width.
  """
  check_networks(image=image, text=text)
  checks.choice("loss", loss, Loss)
  check_augmentation("augmentation", augmentation)

  def init(key, batch):
    _check(batch)
    params, state = _init_towers(image, text, key, batch)
    return params | {name: jnp.float32(x) for name, x in START[loss].items()}, state

  def contrast(params, state, batch, key):
    view_key, *keys = jax.random.split(key, 3)
    seen = batch.first if augmentation is None else augment_batch(augmentation, view_key, batch.first)
    first, image_state = image.apply(params["image"], state["image"], seen, train=True, key=keys[0])
    second, text_state = text.apply(params["text"], state["text"], batch.second, train=True, key=keys[1])
    scale = logit_scale(params["log_scale"])
    value = info_nce(first, second, scale) if loss == "info_nce" else siglip(first, second, scale, params["bias"])
    alignment = jnp.mean((unit_rows(first) * unit_rows(second)).sum(-1))
    return value, ({"image": image_state, "text": text_state}, {"alignment": alignment, "scale": scale})

  def embed(params, state, inputs: Inputs) -> Array:
    name, tower = ("text", text) if jnp.issubdtype(inputs.dtype, jnp.integer) else ("image", image)
    return unit_rows(tower.apply(params[name], state[name], inputs, train=False)[0])

  def predict(params, state, support, inputs):
    known, asked = embed(params, state, support.inputs), embed(params, state, inputs)
    return logit_scale(params["log_scale"]) * centroid_cosines(known, support.labels, asked)

  return Learner(init, contrast, embed, predict)


def _init_towers(image, text, key, batch):
  towers = tuple(zip((image, text), jax.random.split(key), batch, strict=True))
  _check_widths(*(_width(*tower) for tower in towers))
  made = [network.init(own, inputs) for network, own, inputs in towers]
  return {"image": made[0][0], "text": made[1][0]}, {"image": made[0][1], "text": made[1][1]}


def _width(network, key, inputs) -> tuple[int, ...]:
  """The shape of a tower's outputs; nothing is compiled yet, and tokens are looked at."""
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
    raise ValueError(f"expected integer tokens [{len(images)}, length], a row an image, got {given}")
