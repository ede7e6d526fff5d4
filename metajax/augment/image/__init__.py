"""Augmentations of an image `[height, width, channels]` in [0, 1]: `augmentation(key, image) -> image`.

All random choices are drawn from the key. `augment_batch` maps an augmentation over a batch, with a key per row. Images
have any size.
"""

from metajax.augment.image.choices import compose, random_apply
from metajax.augment.image.color import adjust_hue, color_jitter, luminance, random_grayscale, solarize
from metajax.augment.image.crop import crop_box, random_resized_crop, resized_part
from metajax.augment.image.elastic import elastic
from metajax.augment.image.geometry import affine, centered, random_flip, rotation, sample, warp
from metajax.augment.image.pixels import blurred, cutout, gaussian_blur, gaussian_noise
from metajax.augment.image.recipes import handwriting, simclr, simclr_cifar

__all__ = [
  "adjust_hue",
  "affine",
  "blurred",
  "centered",
  "color_jitter",
  "compose",
  "crop_box",
  "cutout",
  "elastic",
  "gaussian_blur",
  "gaussian_noise",
  "handwriting",
  "luminance",
  "random_apply",
  "random_flip",
  "random_grayscale",
  "random_resized_crop",
  "resized_part",
  "rotation",
  "sample",
  "simclr",
  "simclr_cifar",
  "solarize",
  "warp",
]
