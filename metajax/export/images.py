"""The images that a model was trained on, as far as an exported model must know them."""

from typing import NamedTuple

import numpy as np

from metajax.types import Inputs, Preprocessing

PLAIN = 32 / 255  # largest distance from black or white of the border of images with a plain background


class ImageFormat(NamedTuple):
  """Images that a model takes.

  Attributes:
    size: Side of the square images in pixels.
    channels: 1 for gray, 3 for RGB.
    background: "dark" or "light" if the images have a plain background, such as that of characters; else "any".
    preprocessing: Resizing and cropping by the publisher of an encoder; by default images are squashed to a square.
  """

  size: int
  channels: int
  background: str = "any"
  preprocessing: Preprocessing | None = None


def image_format(inputs: Inputs) -> ImageFormat | None:
  """Returns the format of square gray or RGB images `[n, size, size, channels]` in [0, 1]; None for other inputs."""
  shape = getattr(inputs, "shape", ())
  if len(shape) != 4 or shape[1] != shape[2] or shape[3] not in (1, 3):
    return None
  images = np.asarray(inputs)
  if images.dtype.kind != "f" or images.min() < 0 or images.max() > 1:
    return None
  return ImageFormat(shape[1], shape[3], background_of(images))


def background_of(images: np.ndarray) -> str:
  """Returns "dark" or "light" if the borders of images `[n, size, size, channels]` in [0, 1] are so, else "any".

  The background is plain if the median of the border is nearly black (or white) in nine images of ten.
  """
  borders = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], 1)
  medians = np.median(borders.reshape(len(images), -1), 1)
  if np.mean(medians <= PLAIN) >= 0.9:
    return "dark"
  return "light" if np.mean(medians >= 1 - PLAIN) >= 0.9 else "any"
