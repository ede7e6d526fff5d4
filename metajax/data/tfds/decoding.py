"""Reads and decodes the images of a prepared TFDS set."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from metajax.data._tensorflow import tf, tfds
from metajax.data.pipeline import plain


def read(builder: tfds.core.DatasetBuilder, split: str, image: str, others: Sequence[str]) -> dict[str, np.ndarray]:
  """The records of a split in the order of its files: `{feature: array [n]}`, with encoded images.

  Args:
    builder: a TFDS builder of prepared data.
    split: name of a split, or of several joined by "+".
    image: name of the image feature; its array holds the bytes of each image file.
    others: names of the other features to read.
  """
  config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
  records = builder.as_dataset(split=split, decoders={image: tfds.decode.SkipDecoding()}, read_config=config)
  wanted = records.map(plain(lambda record: {key: record[key] for key in (image, *others)}))
  try:
    parts = list(wanted.batch(4096).as_numpy_iterator())
  except tf.errors.OpError as error:
    raise ValueError(f"the records of {builder.info.name!r} cannot be read: {reason(error)}") from None
  return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def decode(encoded: np.ndarray, *, size: int, channels: int) -> np.ndarray:
  """Decodes images to uint8 `[n, size, size, channels]`, 0 to 255, in the same order.

  Each new pixel is the mean over the area it covers: thin strokes keep their ink, without ringing or blur.

  Raises:
    ValueError: if an image cannot be decoded; the message names it.
  """

  def image(file):
    return decoded(file, size=size, channels=channels)

  images = tf.data.Dataset.from_tensor_slices(encoded).map(plain(image), num_parallel_calls=tf.data.AUTOTUNE)
  try:
    return np.concatenate(list(images.batch(1024).as_numpy_iterator()))
  except tf.errors.OpError:
    number, why = next(iter(undecodable(encoded).items()))
    raise ValueError(
      f"image {number} of {len(encoded)} cannot be decoded: {why}; "
      "pass skip_unreadable=True (--skip-unreadable) to leave it out"
    ) from None


def undecodable(encoded: np.ndarray) -> dict[int, str]:
  """`{number: reason}` of the encoded images that cannot be decoded."""
  unreadable = {}
  for number, file in enumerate(encoded):
    try:
      tf.io.decode_image(file, expand_animations=False)
    except tf.errors.OpError as error:
      unreadable[number] = reason(error)
  return unreadable


def decoded(file: tf.Tensor, *, size: int, channels: int) -> tf.Tensor:
  """Decodes one image, a string tensor, as `decode` does."""
  return resized(tf.io.decode_image(file, channels=channels, expand_animations=False), size=size)


def resized(pixels: tf.Tensor, *, size: int) -> tf.Tensor:
  """An image `[height, width, channels]` resized as by `decode`."""
  return tf.cast(tf.round(tf.image.resize(pixels, (size, size), method="area")), tf.uint8)


def reason(error: tf.errors.OpError) -> str:
  """The message of a TensorFlow error, without its graph nodes."""
  return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", error.message.splitlines()[0])
