"""Any learner, trained on views of its images."""

import jax

from metajax import checks
from metajax.types import Augmentation, Learner
from metajax.views import of_batch


def with_augmentation(learner: Learner, view: Augmentation) -> Learner:
  """The learner, trained on a view, drawn anew, of each image of a batch; it is used on images as they are.

  Args:
    learner: trained on `Episode`s, `Examples` or another tree of images.
    view: `(key, image) -> image`, such as `views.image.affine()`.

  Raises:
    TypeError: if it is no Learner, or `view` no function.
  """
  checks.record("learner", learner, Learner)
  checks.function("view", view, "(key, image) -> image")

  def loss(params, state, batch, key):
    view_key, key = jax.random.split(key)
    return learner.loss(params, state, of_batch(view, view_key, batch), key)

  return learner._replace(loss=loss)
