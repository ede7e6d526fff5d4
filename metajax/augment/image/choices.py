"""Augmentations composed, and applied with a probability."""

import jax
import jax.numpy as jnp

from metajax.types import Augmentation


def compose(*views: Augmentation) -> Augmentation:
  """Applies augmentations one after the other, each with a separate key.

  Args:
    *views: augmentations, in order.

  Returns:
    `augmentation(key, image) -> image`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from metajax.augment.image import compose, gaussian_noise, random_flip
    >>> augmentation = compose(random_flip(), gaussian_noise(0.1))
    >>> augmentation(jax.random.key(0), jnp.ones((8, 8, 3))).shape
    (8, 8, 3)
  """

  def augmentation(key, image):
    for i, one in enumerate(views):
      image = one(jax.random.fold_in(key, i), image)
    return image

  return augmentation


def random_apply(augmentation: Augmentation, probability: float) -> Augmentation:
  """Applies an augmentation with a probability; otherwise the image stays.

  Args:
    augmentation: `(key, image) -> image`, of images that keep their shape.
    probability: 0 to 1.

  Returns:
    `augmentation(key, image) -> image`.

  Raises:
    ValueError: if `probability` is not from 0 to 1.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from metajax.augment.image import gaussian_noise, random_apply
    >>> augmentation = random_apply(gaussian_noise(0.1), 0.5)
    >>> augmentation(jax.random.key(0), jnp.ones((8, 8, 3))).shape
    (8, 8, 3)
  """
  check_range("probability", probability, 0, 1)

  def either(key, image):
    whether, own = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(whether, probability), augmentation(own, image), image)

  return either


def check_range(name: str, value: float, low: float, high: float):
  """Raises ValueError, naming the argument, unless it is in the range; NaN never is."""
  if not low <= value <= high:
    raise ValueError(f"expected a {name} from {low} to {high}, got {value}")
