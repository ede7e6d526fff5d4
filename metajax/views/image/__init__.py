"""Views of an image `[height, width, channels]` with values in [0, 1]: `view(key, image) -> image`.

Each draws all of its choices from the key. A batch is `jax.vmap`ped, with a key a row. Images have any size.
"""

from metajax.views.image.choices import View, compose, sometimes
from metajax.views.image.colour import adjust_hue, colour_jitter, grey, luminance, solarize
from metajax.views.image.crop import crop_box, random_resized_crop, resized_part
from metajax.views.image.elastic import elastic
from metajax.views.image.geometry import affine, centred, flip, rotation, sample, warp
from metajax.views.image.pixels import blur, blurred, cutout, noise
from metajax.views.image.recipes import handwriting, simclr, simclr_cifar

__all__ = [
  "View",
  "adjust_hue",
  "affine",
  "blur",
  "blurred",
  "centred",
  "colour_jitter",
  "compose",
  "crop_box",
  "cutout",
  "elastic",
  "flip",
  "grey",
  "handwriting",
  "luminance",
  "noise",
  "random_resized_crop",
  "resized_part",
  "rotation",
  "sample",
  "simclr",
  "simclr_cifar",
  "solarize",
  "sometimes",
  "warp",
]
