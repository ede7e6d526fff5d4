"""Augmentations composed, and applied at random."""

import jax
import jax.numpy as jnp

from metajax.types import Augmentation


def compose(*views: Augmentation) -> Augmentation:
  """The views one after the other, each with a key of its own."""

  def augmentation(key, image):
    for i, one in enumerate(views):
      image = one(jax.random.fold_in(key, i), image)
    return image

  return augmentation


def random_apply(augmentation: Augmentation, probability: float) -> Augmentation:
  """The view with a probability, and otherwise the image as it is.

  Raises:
    ValueError: if `probability` is not from 0 to 1.
  """
  check_range("probability", probability, 0, 1)

  def either(key, image):
    whether, own = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(whether, probability), augmentation(own, image), image)

  return either


def check_range(name: str, value: float, low: float, high: float):
  """Refuses an argument out of range; NaN is in none.

  Raises:
    ValueError: naming it.
  """
  if not low <= value <= high:
    raise ValueError(f"expected a {name} from {low} to {high}, got {value}")
