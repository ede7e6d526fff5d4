"""SimCLR's views of small photographs by tf.image, in an idiomatic tf.data pipeline."""

import functools

import numpy as np
import tensorflow as tf

CHANGES = (  # color jitter of strength 0.5
  lambda x: x * tf.random.uniform([], 0.6, 1.4),
  lambda x: tf.image.random_contrast(x, 0.6, 1.4),
  lambda x: tf.image.random_saturation(x, 0.6, 1.4),
  lambda x: tf.image.random_hue(x, 0.1),
)


def views(images: np.ndarray, batch_size: int):
  """An endless iterator of batches of views of images `[n, h, w, 3]` in [0, 1], drawn on all cores."""
  dataset = tf.data.Dataset.from_tensor_slices(images).repeat()
  dataset = dataset.map(_view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
  return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def _view(image):
  shape = tf.shape(image)
  begin, size, _ = tf.image.sample_distorted_bounding_box(
    shape,
    tf.zeros([0, 0, 4]),
    min_object_covered=0.1,
    aspect_ratio_range=(3 / 4, 4 / 3),
    area_range=(0.08, 1.0),
    max_attempts=10,
    use_image_if_no_bounding_boxes=True,
  )
  part = tf.image.resize(tf.slice(image, begin, size), shape[:2], "bilinear", antialias=True)
  part = tf.ensure_shape(tf.image.random_flip_left_right(part), image.shape)
  part = tf.cond(tf.random.uniform([]) < 0.8, lambda: _jittered(part), lambda: part)
  gray = lambda: tf.tile(tf.image.rgb_to_grayscale(part), [1, 1, 3])
  return tf.cond(tf.random.uniform([]) < 0.2, gray, lambda: part)


def _jittered(image):
  """Brightness, contrast, saturation and hue in random order."""
  shape, order = image.shape, tf.random.shuffle(tf.range(4))
  for i in range(4):
    changed = tf.switch_case(order[i], [functools.partial(change, image) for change in CHANGES])
    image = tf.ensure_shape(tf.clip_by_value(changed, 0.0, 1.0), shape)
  return image
