"""Training of any learner on augmented images."""

import jax

from metajax import checks
from metajax.augment import augment_examples
from metajax.types import Augmentation, Learner


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
