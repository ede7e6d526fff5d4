"""Views of an image: one after the other, or only sometimes."""

import jax
import jax.numpy as jnp

from metajax.types import Augmentation

View = Augmentation


def compose(*views: View) -> View:
  """The views one after the other, each with a key of its own."""

  def view(key, image):
    for i, one in enumerate(views):
      image = one(jax.random.fold_in(key, i), image)
    return image

  return view


def sometimes(view: View, probability: float) -> View:
  """The view with a probability, and otherwise the image as it is.

  Raises:
    ValueError: if `probability` is not from 0 to 1.
  """
  check_range("probability", probability, 0, 1)

  def either(key, image):
    whether, own = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(whether, probability), view(own, image), image)

  return either


def check_range(name: str, value: float, low: float, high: float):
  """Refuses an argument out of range; NaN is in none.

  Raises:
    ValueError: naming it.
  """
  if not low <= value <= high:
    raise ValueError(f"expected a {name} from {low} to {high}, got {value}")
