"""Published and proven compositions of augmentations."""

from metajax.augment.image.choices import check_range, compose, random_apply
from metajax.augment.image.color import color_jitter, random_grayscale
from metajax.augment.image.crop import random_resized_crop
from metajax.augment.image.elastic import elastic
from metajax.augment.image.geometry import affine, random_flip
from metajax.augment.image.pixels import gaussian_blur
from metajax.types import Augmentation


def simclr(size: int | None = None, strength: float = 1.0, *, crop: bool = True) -> Augmentation:
  """SimCLR's augmentation of photographs (arXiv:2002.05709): crop, flip, color jitter, grayscale, blur.

  Args:
    size: side of the crop in pixels; by default the image's height and width.
    strength: strength of the color jitter, 0 to 2.5; 1 on ImageNet.
    crop: whether to crop; False for crops of the original images, `data.RandomCrop`.

  Returns:
    `augmentation(key, image) -> image`.

  Raises:
    ValueError: if `strength` is not from 0 to 2.5.
  """
  return compose(simclr_cifar(size, strength, crop=crop), random_apply(gaussian_blur(), 0.5))


def simclr_cifar(size: int | None = None, strength: float = 0.5, *, crop: bool = True) -> Augmentation:
  """SimCLR's augmentation of small photographs (its appendix B.9): no blur, and color jitter of half the strength.

  Arguments, result and exceptions are those of `simclr`.
  """
  check_range("strength", strength, 0, 2.5)
  jitter = color_jitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
  colors = random_apply(jitter, 0.8), random_grayscale(0.2)
  return compose(*[random_resized_crop(size)] * crop, random_flip(), *colors)


def handwriting(size: int | None = None) -> Augmentation:
  """An augmentation of characters (ink 1 on ground 0) that imitates another handwriting.

  It combines affine and elastic distortions, a crop of at least half of the area, and a blur, which changes the
  stroke. It never flips: a mirrored character may be another one.

  Args:
    size: side of the crop in pixels; by default the image's height and width.

  Returns:
    `augmentation(key, image) -> image`.
  """
  return compose(
    affine(rotation=15.0, shear=0.3, scale=(0.75, 1.25), translation=0.08, probability=0.8),
    random_apply(elastic(0.03, 0.12), 0.5),
    random_resized_crop(size, area=(0.5, 1.0)),
    random_apply(gaussian_blur((0.1, 1.0)), 0.5),
  )
