"""Features of published encoders, as a baseline."""

import os
from pathlib import Path

import numpy as np

from metajax.data.files.image_file import UnreadableImage, read_image
from metajax.data.files.preprocessing import preprocess
from metajax.data.files.user_images import read_table
from metajax.evaluate import embed_dataset
from metajax.types import Examples

BATCH = 16


def clip_features(encoder: Path, support: Path) -> np.ndarray:
  """Returns the image features `[s, d]` of labeled images by a published CLIP, with its own preprocessing.

  Args:
    encoder: A folder with its safetensors and configuration, as for `networks.load_clip`.
    support: Labeled images, in the order of `read_support`.

  Raises:
    FileNotFoundError, ValueError: If the encoder or an image cannot be read.
  """
  from metajax.networks import load_clip

  pretrained = load_clip(encoder)
  images = read_table(os.path.expanduser(os.fspath(support))).images
  form = pretrained.preprocessing
  network, params = pretrained.networks.first, pretrained.params["image"]

  def embed(params, state, inputs):
    return network.apply(params, state, inputs, train=False)[0]

  def batches():
    for start in range(0, len(images), BATCH):
      batch = np.stack([_image(image, form) for image in images[start : start + BATCH]])
      yield Examples(batch.astype(np.float32) / np.float32(255), np.arange(len(batch)))

  return np.asarray(embed_dataset(embed, params, {}, batches()).inputs)


def _image(image, form) -> np.ndarray:
  if isinstance(image, np.ndarray):
    return preprocess(image, form)
  try:
    return read_image(image, size=form.pixels, channels=3, preprocessing=form)
  except UnreadableImage as error:
    raise ValueError(f"expected images that can be read, got {image!r} ({error})") from None
