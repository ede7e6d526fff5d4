"""Geometric augmentations: affine maps, centering, rotations, flips."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from metajax.augment.image.choices import check_range, random_apply
from metajax.types import Array, Augmentation


def affine(
  rotation: float = 10.0,
  shear: float = 0.3,
  scale: tuple[float, float] = (0.8, 1.2),
  translation: float = 2 / 105,
  *,
  probability: float = 0.5,
  fill: float = 0.0,
) -> Augmentation:
  """A random affine map about the center of the image, with bilinear interpolation.

  Each component is applied independently with a probability. The defaults are those of Siamese networks (Koch 2015). A
  point at `(x, y)` from the center, x to the right and y down, maps to `R H S (x, y) + t`: scaled by `S`, sheared by
  `H = [[1, h_x], [h_y, 1]]`, rotated by `R`, translated by `t`.

  Args:
    rotation: largest angle in degrees, 0 to 180; drawn from -rotation to rotation.
    shear: largest `h_x` and `h_y`, at least 0 and below 1; drawn from -shear to shear.
    scale: range of the scale of each axis, above 0; axes are drawn independently.
    translation: largest translation along each axis, as a fraction of its side; drawn from -translation to translation.
    probability: probability of each of the rotation, the two shears, the two scales and the two translations.
    fill: value outside of the image.

  Returns:
    `augmentation(key, image) -> image` of the same shape.

  Raises:
    ValueError: if an argument is out of range.
  """
  check_range("probability", probability, 0, 1)
  check_range("rotation", rotation, 0, 180)
  check_range("translation", translation, 0, 1)
  if not 0 <= shear < 1:
    raise ValueError(f"expected a shear of at least 0 and below 1, got {shear}")
  if not (len(scale) == 2 and 0 < scale[0] <= scale[1]):
    raise ValueError(f"expected a scale (low, high) with 0 < low <= high, got {scale}")

  def augmentation(key, image):
    keys = jax.random.split(key, 8)
    sides = jnp.array(image.shape[:2], image.dtype)
    there = jax.random.bernoulli(keys[7], probability, (7,))

    def pick(i, low, high, none):
      return jnp.where(there[i], jax.random.uniform(keys[i], (), image.dtype, low, high), none)

    angle = pick(0, -rotation, rotation, 0.0) * jnp.pi / 180
    h_x, h_y = pick(1, -shear, shear, 0.0), pick(2, -shear, shear, 0.0)
    s_x, s_y = pick(3, *scale, 1.0), pick(4, *scale, 1.0)
    t_x, t_y = (pick(i, -translation, translation, 0.0) * sides[axis] for i, axis in ((5, 1), (6, 0)))
    rotate = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    forward = rotate @ jnp.array([[1, h_x], [h_y, 1]]) @ jnp.diag(jnp.array([s_x, s_y]))
    return warp(image, forward, jnp.array([t_x, t_y]), fill)

  return augmentation


def centered(spread: float = 0.22) -> Augmentation:
  """Centers the ink of a character and scales it to one size, which removes the drawer's choice of place and size.

  The image is translated, and scaled equally along both axes, so that the mean position of its ink is the center and
  its deviation (the root of the mean of both axes' variances) is `spread` times the mean side. Nothing is random: the
  key is ignored. An image without ink stays. On Omniglot's 20-way one-shot tasks within an alphabet, this alone takes
  the error of the nearest image by pixels from 83 to 37 percent.

  Args:
    spread: deviation of the ink as a fraction of the mean side, above 0 and below 1. Ink is above 0, as in glyphs and
      Omniglot; image values are in [0, 1].

  Returns:
    `augmentation(key, image) -> image` of the same shape.

  Raises:
    ValueError: if `spread` is not above 0 and below 1.
  """
  if not 0 < spread < 1:
    raise ValueError(f"expected a spread above 0 and below 1, got {spread}")

  def augmentation(key, image):
    height, width = image.shape[:2]
    ink = image.sum(-1)
    mass = ink.sum()
    share = ink / jnp.where(mass > 0, mass, 1)
    y, x = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij")
    middle = jnp.stack([(share * x).sum(), (share * y).sum()])
    variance = (share * ((x - middle[0]) ** 2 + (y - middle[1]) ** 2)).sum() / 2
    scale = jnp.where(
      variance > 0, spread * (height + width) / 2 * jax.lax.rsqrt(jnp.where(variance > 0, variance, 1)), 1
    )
    return warp(image, scale * jnp.eye(2, dtype=image.dtype), -scale * middle)

  return augmentation


def warp(image: Array, matrix: Array, translation: Array, fill: float = 0.0) -> Array:
  """Applies `(x, y) -> matrix (x, y) + translation` about the center, in pixels, x to the right, y down.

  Args:
    image: `[height, width, channels]`.
    matrix: invertible matrix `[2, 2]`.
    translation: `[2]`.
    fill: value outside of the image.

  Returns:
    The warped image, of the same shape.
  """
  height, width = image.shape[:2]
  y, x = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij")
  (a, b), (c, d) = matrix
  determinant = a * d - b * c
  x, y = x - translation[0], y - translation[1]
  from_x, from_y = (d * x - b * y) / determinant, (a * y - c * x) / determinant
  return sample(image, from_y + (height - 1) / 2, from_x + (width - 1) / 2, fill)


def sample(image: Array, y: Array, x: Array, fill: float = 0.0) -> Array:
  """Samples an image at fractional pixels `(y, x)`, each `[h, w]`, by bilinear interpolation: `[h, w, channels]`.

  The value outside of the image is `fill`; the border blends into it over half a pixel.
  """

  def at(channel):
    return map_coordinates(channel, [y, x], order=1, mode="constant", cval=fill)

  return jax.vmap(at, -1, -1)(image)


def rotation(degrees: float = 30.0, *, fill: float = 0.0) -> Augmentation:
  """Rotates about the center by an angle drawn from -degrees to degrees, with bilinear interpolation.

  Args:
    degrees: largest angle, 0 to 180.
    fill: value outside of the image.

  Returns:
    `augmentation(key, image) -> image` of the same shape.

  Raises:
    ValueError: if `degrees` is out of range.
  """
  return affine(degrees, 0.0, (1.0, 1.0), 0.0, probability=1.0, fill=fill)


def random_flip(probability: float = 0.5) -> Augmentation:
  """Flips an image horizontally with a probability.

  Args:
    probability: 0 to 1.

  Returns:
    `augmentation(key, image) -> image`.

  Raises:
    ValueError: if `probability` is not from 0 to 1.
  """
  return random_apply(lambda key, image: image[:, ::-1], probability)
