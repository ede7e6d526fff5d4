"""Any learner, trained on views of its images."""

import jax

from metajax import checks
from metajax.augment import augment_examples
from metajax.types import Augmentation, Learner


def with_augmentation(learner: Learner, augmentation: Augmentation) -> Learner:
  """The learner, trained on a view, drawn anew, of each image of a batch; it is used on images as they are.

  Args:
    learner: trained on `Episode`s, `Examples` or another tree of images.
    augmentation: `(key, image) -> image`, such as `augment.image.affine()`.

  Raises:
    TypeError: if it is no Learner, or `augmentation` no function.
  """
  checks.record("learner", learner, Learner)
  checks.function("augmentation", augmentation, "(key, image) -> image")

  def loss(params, state, batch, key):
    view_key, key = jax.random.split(key)
    return learner.loss(params, state, augment_examples(augmentation, view_key, batch), key)

  return learner._replace(loss=loss)
