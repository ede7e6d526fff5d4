"""Augmentations of an image's colors: jitter, grayscale, solarize."""

import jax
import jax.numpy as jnp

from metajax.augment.image.choices import check_range
from metajax.types import Array, Augmentation, Key

HUE = 3
LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)


def color_jitter(
  brightness: float = 0.8, contrast: float = 0.8, saturation: float = 0.8, hue: float = 0.2
) -> Augmentation:
  """Changes brightness, contrast, saturation and hue in random order; the defaults are SimCLR's at strength 1.

  With factors `f` drawn from `max(0, 1 - strength)` to `1 + strength`, each result clipped to [0, 1]:

      brightness  f x        contrast  f x + (1 - f) mean(gray(x))        saturation  f x + (1 - f) gray(x)

  The hue is rotated by a fraction of the color circle, drawn from -hue to hue. Images with one channel change only in
  brightness and contrast.

  Args:
    brightness, contrast, saturation: strengths, at least 0.
    hue: largest rotation of the hue, 0 to 0.5 of the circle.

  Returns:
    `augmentation(key, image) -> image`; it raises ValueError unless images have 1 or 3 channels.

  Raises:
    ValueError: if a strength is out of range.
  """
  for name, strength in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
    check_range(name, strength, 0, float("inf"))
  check_range("hue", hue, 0, 0.5)
  strengths = (brightness, contrast, saturation)
  return lambda key, image: jittered(image, *jitter_draws(key, strengths, hue))


def jitter_draws(key: Key, strengths: tuple[float, float, float], hue: float) -> tuple[Array, Array, Array]:
  """The random draws of `color_jitter`: factors `[3]`, the rotation of the hue, and the order of the changes `[4]`."""
  keys = jax.random.split(key, 3)
  widths = jnp.array(strengths)
  factors = jax.random.uniform(keys[0], (3,), minval=jnp.maximum(0, 1 - widths), maxval=1 + widths)
  return factors, jax.random.uniform(keys[1], minval=-hue, maxval=hue), jax.random.permutation(keys[2], 4)


def jittered(image: Array, factors: Array, turn: Array, order: Array) -> Array:
  """Changes brightness (0), contrast (1), saturation (2) and hue (3) of an image, in the given order.

  Args:
    image: `[h, w, 1 or 3]`.
    factors: factors of brightness, contrast and saturation, `[3]`; 1 changes nothing.
    turn: rotation of the hue, in circles.
    order: numbers of the four changes in their order, `[4]`.

  Returns:
    The changed image, of the same shape.
  """
  planes = _planes(image)
  # Under vmap all branches of a choice are computed. The hue is the most expensive change, so it is rotated once,
  # between the changes that precede it and those that follow it.
  (others,) = jnp.nonzero(order != HUE, size=3)
  before, what = others < jnp.argmax(order == HUE), order[others]
  factors = factors[what].astype(image.dtype)
  for now in (before, ~before):
    for i in range(3):
      planes = _blend(planes, what[i], jnp.where(now[i], factors[i], 1))
    if now is before and len(planes) == 3:
      planes = _turned(planes, turn)
  return jnp.moveaxis(planes, 0, -1)


def random_grayscale(probability: float = 0.2) -> Augmentation:
  """Turns an image gray with a probability: the luminance `0.299 r + 0.587 g + 0.114 b` in all channels.

  Args:
    probability: 0 to 1.

  Returns:
    `augmentation(key, image) -> image`; it raises ValueError unless images have 1 or 3 channels.

  Raises:
    ValueError: if `probability` is not from 0 to 1.
  """
  check_range("probability", probability, 0, 1)

  def augmentation(key, image):
    planes = _planes(image)
    gray = jnp.where(jax.random.bernoulli(key, probability), _luminance(planes), planes)
    return jnp.moveaxis(gray, 0, -1)

  return augmentation


def solarize(threshold: float = 0.5) -> Augmentation:
  """Inverts values from the threshold on: `1 - x` where `x >= threshold`.

  Args:
    threshold: 0 to 1.

  Returns:
    `augmentation(key, image) -> image`.

  Raises:
    ValueError: if `threshold` is not from 0 to 1.
  """
  check_range("threshold", threshold, 0, 1)
  return lambda key, image: jnp.where(image < threshold, image, 1 - image)


def luminance(image: Array) -> Array:
  """The luminance of an image: `[h, w, 3] -> [h, w, 1]`; an image with one channel stays.

  Raises:
    ValueError: if the image has neither 1 nor 3 channels.
  """
  return jnp.moveaxis(_luminance(_planes(image)), 0, -1)


def adjust_hue(image: Array, turn: Array) -> Array:
  """Rotates the hue of an image `[h, w, 3]` by `turn` circles; saturation and value stay."""
  return jnp.moveaxis(_turned(_planes(image), turn), 0, -1)


def _planes(image):
  """The image as `[channels, h, w]`: with three channels on the last axis, a CPU processes one pixel at a time."""
  if image.ndim != 3 or image.shape[-1] not in (1, 3):
    raise ValueError(f"expected an image [height, width, 1 or 3], got {list(image.shape)}")
  return jnp.moveaxis(image, -1, 0)


def _luminance(planes):
  if len(planes) == 1:
    return planes
  return sum(weight * plane for weight, plane in zip(LUMINANCE, planes, strict=True))[None]


def _turned(planes, turn):
  red, green, blue = planes
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  by = 1 / jnp.where(chroma > 0, chroma, 1)
  # In sixths of the circle.
  hue = jnp.where(value == green, (blue - red) * by + 2, (red - green) * by + 4)
  hue = jnp.where(value == red, (green - blue) * by, hue) + 6 * turn.astype(planes.dtype)
  channels = []
  for start in (5, 3, 1):
    k = start + hue
    k = k - 6 * jnp.floor(k / 6)
    channels.append(value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1))
  return jnp.stack(channels)


def _blend(planes, what, factor):
  """Blends `factor` of the image with `1 - factor` of black (0), of its mean gray (1) or of its gray version (2)."""
  own = _luminance(planes)
  other = jnp.where(what == 0, 0, jnp.where(what == 1, own.mean(), own))
  return jnp.where(factor == 1, planes, jnp.clip(factor * planes + (1 - factor) * other, 0, 1))
