"""Any learner, on augmented or preprocessed images."""

from collections.abc import Callable

import jax

from metajax import checks
from metajax.augment import augment_examples
from metajax.tree import padded_like, values_of
from metajax.types import Array, Augmentation, Episode, Examples, Learner


def with_augmentation(learner: Learner, augmentation: Augmentation) -> Learner:
  """Augments the batches of any learner: trains on a new random view of each image, and predicts on images unchanged.

  Args:
    learner: Learner trained on `Episode`s, `Examples` or another tree of images.
    augmentation: Function `(key, image) -> image`, such as `augment.image.affine()`.

  Returns:
    The learner, with another `loss`.

  Raises:
    TypeError: If `learner` is not a Learner, or `augmentation` not a function.
  """
  checks.record("learner", learner, Learner)
  checks.function("augmentation", augmentation, "(key, image) -> image")

  def loss(params, state, batch, key):
    view_key, key = jax.random.split(key)
    return learner.loss(params, state, augment_examples(augmentation, view_key, batch), key)

  return learner._replace(loss=loss)


def preprocessed(learner: Learner, prepare: Callable[[Array], Array]) -> Learner:
  """Preprocesses each image before any learner: in training, in `embed` and in `predict`.

  `compose.with_preprocessing` does so before a network, which an inner loop then repeats in every step.

  Args:
    learner: Learner trained on `Episode`s, `Examples` or another tree of images.
    prepare: Function of one image, e.g. `lambda x: augment.image.centered()(None, x)`.

  Returns:
    The learner of raw images.

  Raises:
    TypeError: if `learner` is not a Learner, or `prepare` not a function.
  """
  checks.record("learner", learner, Learner)
  checks.function("prepare", prepare, "image -> image")

  rows = jax.vmap(prepare)

  def each(batch):
    if isinstance(batch, Episode):
      return Episode(*(part._replace(inputs=_mapped(jax.vmap(rows), part.inputs)) for part in batch))
    return batch._replace(inputs=_mapped(rows, batch.inputs)) if isinstance(batch, Examples) else _mapped(rows, batch)

  def loss(params, state, batch, key):
    return learner.loss(params, state, each(batch), key)

  def predict(params, state, support, inputs):
    return learner.predict(params, state, Examples(each(support.inputs), support.labels), each(inputs))

  return learner._replace(
    init=lambda key, batch: learner.init(key, each(batch)),
    loss=loss,
    embed=lambda params, state, inputs: learner.embed(params, state, each(inputs)),
    predict=predict,
  )


def _mapped(function, inputs):
  return padded_like(jax.tree.map(function, values_of(inputs)), inputs)
