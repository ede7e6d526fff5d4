"""SimCLR (arXiv:2002.05709), and supervised contrastive learning (arXiv:2004.11362), which shares all but the loss."""

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
from metajax.types import Array, Augmentation, Batch, Examples, Inputs, Key, Learner, Network, Predictor

Embedding = Literal["encoder", "head"]


def simclr(
  encoder: Network,
  head: Network,
  augmentation: Augmentation,
  *,
  temperature: float | Literal["learned"] = 0.5,
  embedding: Embedding = "encoder",
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """Learns that two views of an image are alike, and those of any two images are not:

      minimize  nt_xent(head(encoder(view(k, x))), temperature)

  over two views of each image, `2 n` rows that are each other's negatives wherever they are on the mesh; batch norm
  too has the statistics of all of them. The head is left behind: features before it serve better. Row `i` of the global
  batch has its own key, so that views do not depend on hosts, devices or where a run went on.

  A batch is images `[n, h, w, c]` in [0, 1], or whatever else a view is of, `[n, ...]`; or `Examples` of them, whose
  labels are not looked at, but for an all-zero row, which is padding, as everywhere.

  Args:
    encoder: images to features `[n, d]`.
    head: features to `[n, projection]`, such as `networks.projection_head()`.
    augmentation: `(key, image) -> image`, such as `augment.image.simclr()`.
    temperature: of the cosines, above 0; "learned": a log parameter `log_scale` that starts at a temperature of 0.07
      and is held at 0.01 and above (`train.keep_params_below` keeps the parameter itself there).
    embedding: what `embed` gives: features of the "encoder", or those after the "head", of length 1.
    predictor: `embed -> predict`.

  Raises:
    TypeError: if a network is no Network, or `augmentation` or `predictor` no function.
    ValueError: if an argument is none of these; at init, if there are fewer than two images, a value is not finite
      or, of images, out of [0, 1], or rows are padded and a network keeps batch statistics.
  """

  def contrast(embedded, batch, temperature):
    weights = jnp.repeat(batch.labels.any(-1), 2) if isinstance(batch, Examples) else None
    return nt_xent(embedded, temperature, weights=weights)

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
  """Learns that views of images of one class are alike: SimCLR with labels (arXiv:2004.11362).

      minimize  losses.supervised_contrastive(head(encoder(view(k, x))), labels, temperature)

  over two views of each image of a batch of `Examples`. Arguments and errors are those of `simclr`.
  """

  def contrast(embedded, batch, temperature):
    return loss_of_classes(embedded, jnp.repeat(batch.labels, 2, 0), temperature)

  return _contrastive(encoder, head, augmentation, contrast, temperature, embedding, predictor, check_examples)


def two_views(augmentation: Augmentation, key: Key, images: Inputs) -> Array:
  """Two views of each image: `[n, ...] -> [2 n, ...]`, rows `2 i` and `2 i + 1` those of image `i`."""

  def pair(key, image):
    return jnp.stack([augmentation(own, image) for own in jax.random.split(key)])

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
    images = inputs_of(batch)
    check_views(images)
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
