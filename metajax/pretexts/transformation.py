"""Transformation prediction: is the second image a rotation, another crop, a recoloring of the first, or unrelated?"""

import jax
import jax.numpy as jnp

from metajax.pretexts.rotation import TURNS, turned
from metajax.types import Augmentation, Examples, PretextFn

RELATIONS = ("turned", "another crop", "other colors", "unrelated")


def transformation(crop: Augmentation, color: Augmentation) -> PretextFn:
  """Pairs of images, labeled with the transformation from the first to the second.

  Every image is cropped once and recolored once, with draws `crop(k)` and `color(c)`. Both images of a pair are then
  rotated by the same 0 to 3 quarter turns, equally likely. No trace of resampling, zoom, color or orientation in one
  image therefore gives the answer away; only both images together do. The first is image `x` under draws `(k, c)`; the
  second is, equally likely:

      0  turned         the first, rotated by another 90, 180 or 270 degrees counterclockwise
      1  another crop   x under draws (k', c)
      2  other colors   x under draws (k, c')
      3  unrelated      another image of the batch, drawn uniformly, under draws (k, c)

  Args:
    crop: augmentation `(key, image) -> image` to square images, e.g. `augment.image.random_resized_crop()`.
    color: augmentation `(key, image) -> image`, e.g. `augment.image.color_jitter()`.

  Returns:
    `pretext(key, images)`: `[n, side, side, c]` to `Examples` of `[n, 2, side, side, c]` and labels one-hot `[n, 4]`.
    It raises ValueError if the batch has a single image, or augmented images are not square.
  """

  def pretext(key, images):
    count, images = len(images), jnp.asarray(images)
    if count < 2:
      raise ValueError(f"expected at least 2 images, so that a pair can be unrelated, got {count}")

    def one(row, image):
      which, other, turn, *draws = jax.random.split(jax.random.fold_in(key, row), 7)
      cut, cut_again, tint, tint_again = draws

      def seen(image, cut, tint):
        return color(tint, crop(cut, image))

      first = seen(image, cut, tint)
      if first.shape[0] != first.shape[1]:
        raise ValueError(f"expected square views [side, side, channels], got {list(first.shape)}")
      label = jax.random.randint(which, (), 0, len(RELATIONS))
      # The second image is augmented once for all relations: under vmap every branch of a choice is computed.
      unrelated = images[(row + jax.random.randint(other, (), 1, count)) % count]

      def pick(k, new, old):
        return jnp.where(label == k, new, old)

      cut, tint = (
        jax.random.wrap_key_data(pick(k, jax.random.key_data(new), jax.random.key_data(old)))
        for k, new, old in ((1, cut_again, cut), (2, tint_again, tint))
      )
      second = seen(pick(3, unrelated, image), cut, tint)
      both, more = jax.random.randint(turn, (2,), 0, jnp.array([TURNS, TURNS - 1]))
      turns = both, (both + pick(0, 1 + more, 0)) % TURNS
      shown = [turned(*given) for given in zip((first, second), turns, strict=True)]
      return jnp.stack(shown), jax.nn.one_hot(label, len(RELATIONS))

    return Examples(*jax.vmap(one)(jnp.arange(count), images))

  return pretext
