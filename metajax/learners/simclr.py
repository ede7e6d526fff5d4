"""SimCLR (arXiv:2002.05709), and supervised contrastive learning (arXiv:2004.11362), which differs in the loss only."""

import numbers
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from metajax import checks
from metajax.augment import augment_batch
from metajax.compose import with_head
from metajax.learners._checks import check_examples, check_padded_rows, check_predictor, check_views, inputs_of
from metajax.losses import logit_scale, nt_xent
from metajax.losses import supervised_contrastive as loss_of_classes
from metajax.losses.contrastive import START_LOG_SCALE
from metajax.predictors import nearest_centroid
from metajax.similarity import unit_rows
from metajax.types import Array, Augmentation, Batch, Examples, Inputs, Key, Learner, Network, Pair, Predictor

Embedding = Literal["encoder", "head"]


def simclr(
  encoder: Network,
  head: Network,
  augmentation: Augmentation,
  *,
  temperature: float | Literal["learned"] = 0.5,
  decoupled: bool = False,
  embedding: Embedding = "encoder",
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """SimCLR: learns an embedding in which two views of an image are close and other images far (arXiv:2002.05709).

      minimize  nt_xent(head(encoder(augmentation(k, x))), temperature)

  All `2 n` views of the global batch are each other's negatives and share batch-norm statistics. The head is discarded
  after training, since features before it transfer better. Row `i` of the global batch has a separate key, so that
  views do not depend on hosts, devices or resumption.

  A batch is images `[n, h, w, c]` in [0, 1], or other inputs of the augmentation, `[n, ...]`; or a `Pair` of two crops
  of each, `data.RandomCrop(views=2)`, for an augmentation that does not crop; or `Examples` of them, whose labels only
  mark padding (an all-zero row).

  Args:
    encoder: Images to features `[n, d]`.
    head: Features to `[n, projection]`, such as `networks.projection_head()`.
    augmentation: Function `(key, image) -> image`, such as `augment.image.simclr()`.
    temperature: Divisor of the cosines, above 0; "learned": a log parameter `log_scale` that starts at a temperature of
      0.07, which is held at 0.01 and above (`train.keep_params_below` bounds the parameter itself).
    decoupled: Leave the positive out of the sum over negatives (DCL, arXiv:2110.06848), as `losses.nt_xent`.
    embedding: Output of `embed`: features of the "encoder", or unit rows after the "head".
    predictor: Few-shot predictor `embed -> predict`.

  Returns:
    A Learner whose `embed` returns `[n, d]`.

  Raises:
    TypeError: If a network is not a Network, or `augmentation` or `predictor` not a function.
    ValueError: If another argument is invalid; at init, if the batch has fewer than two images, a value is not finite
      or, for images, outside [0, 1], or rows are padded and a network keeps batch statistics.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import learners, networks
    >>> learner = learners.simclr(networks.mlp((4,), 4), networks.projection_head(4, 2), lambda key, image: image)
    >>> images = jnp.zeros((8, 16, 16, 3))
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), images)
    >>> jax.eval_shape(learner.embed, params, state, images).shape
    (8, 4)
  """

  checks.flag("decoupled", decoupled)

  def contrast(embedded, batch, temperature):
    weights = jnp.repeat(batch.labels.any(-1), 2) if isinstance(batch, Examples) else None
    return nt_xent(embedded, temperature, decoupled=decoupled, weights=weights)

  return _contrastive(encoder, head, augmentation, contrast, temperature, embedding, predictor, _check_any)


def supervised_contrastive(
  encoder: Network,
  head: Network,
  augmentation: Augmentation,
  *,
  temperature: float | Literal["learned"] = 0.1,
  embedding: Embedding = "encoder",
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """Supervised contrastive learning: SimCLR with labels, all views of one class as positives (arXiv:2004.11362).

      minimize  losses.supervised_contrastive(head(encoder(augmentation(k, x))), labels, temperature)

  A batch is labeled `Examples`, with two views per image. Arguments and errors are those of `simclr`.
  """

  def contrast(embedded, batch, temperature):
    return loss_of_classes(embedded, jnp.repeat(batch.labels, 2, 0), temperature)

  return _contrastive(encoder, head, augmentation, contrast, temperature, embedding, predictor, check_examples)


def two_views(augmentation: Augmentation, key: Key, images: Inputs) -> Array:
  """Two views of each image: `[n, ...] -> [2 n, ...]`, rows `2 i` and `2 i + 1` those of image `i`.

  Of a `Pair` of two crops of each image, one view each.
  """

  def pair(key, image):
    crops = image if isinstance(image, Pair) else (image, image)
    return jnp.stack([augmentation(own, crop) for own, crop in zip(jax.random.split(key), crops, strict=True)])

  views = augment_batch(pair, key, images)
  return views.reshape(-1, *views.shape[2:])


def _check_any(batch: Batch):
  if isinstance(batch, Examples):
    check_examples(batch)


def _contrastive(encoder, head, augmentation, contrast, temperature, embedding, predictor, check) -> Learner:
  """A Learner that minimizes `contrast(embedded, batch, temperature)` over two views of each image."""
  if temperature != "learned" and not (isinstance(temperature, numbers.Real) and 0 < temperature < np.inf):
    raise ValueError(f"expected a temperature above 0, or 'learned', got {temperature!r}")
  if embedding not in ("encoder", "head"):
    raise ValueError(f"expected embedding to be 'encoder' or 'head', got {embedding!r}")
  checks.function("augmentation", augmentation, "(key, image) -> image, such as augment.image.simclr()")
  check_predictor(predictor)
  network, learned = with_head(encoder, head), temperature == "learned"

  def init(key, batch):
    check(batch)
    images, *others = inputs if isinstance(inputs := inputs_of(batch), Pair) else (inputs,)
    for part in (images, *others):
      check_views(part)
    one = jax.eval_shape(augmentation, key, images[0])
    params, state = network.init(key, jnp.zeros((2 * len(images), *one.shape), one.dtype))
    if isinstance(batch, Examples):
      check_padded_rows(state, batch)
    return params | {"log_scale": jnp.float32(START_LOG_SCALE)} if learned else params, state

  def loss(params, state, batch, key):
    view_key, key = jax.random.split(key)
    views = two_views(augmentation, view_key, inputs_of(batch))
    embedded, state = network.apply(params, state, views, train=True, key=key)
    now = 1 / logit_scale(params["log_scale"]) if learned else temperature
    unit = unit_rows(embedded)
    metrics = {"alignment": jnp.mean((unit[0::2] * unit[1::2]).sum(-1))}
    return contrast(embedded, batch, now), (state, metrics | {"temperature": now} if learned else metrics)

  def embed(params, state, inputs):
    if embedding == "head":
      return unit_rows(network.apply(params, state, inputs, train=False)[0])
    return encoder.apply(params["encoder"], state["encoder"], inputs, train=False)[0]

  return Learner(init, loss, embed, predictor(embed))
