"""Palettes: the few colors that stand for all of some images, by k-means of scikit-learn."""

import warnings

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.lazy_images import take
from metajax.data.source import MOST_PIXELS, ImageDataset, check_source

PIXELS = 20000  # that a palette is learned from


def fit_palette(source: ImageDataset, palette_size: int = 16, *, size: int | None = None, seed: int = 0) -> np.ndarray:
  """The centers of k-means on pixels of a source's images: float32 `[palette_size, channels]` in [0, 1], by brightness.

  Where the pixels that are looked at, 20,000, have fewer values than that, there are as many colors as values.

  Args:
    source: an `ImageDataset`.
    palette_size: at most, at least 2.
    size: images are brought to size x size pixels first, as `augment.palette.to_palette` brings them.
    seed: of the pixels that are looked at, and of k-means.

  Raises:
    ValueError: if `palette_size` is below 2, or all pixels are alike.
  """
  check_source(source)
  checks.count("palette_size", palette_size, most=256)
  if palette_size < 2:
    raise ValueError(f"expected at least 2 colors, got {palette_size}")
  if size is not None:
    checks.count("size", size, 1, MOST_PIXELS)
  checks.count("seed", seed, 0, 2**32 - 1)
  from sklearn.cluster import KMeans
  from sklearn.exceptions import ConvergenceWarning

  random = np.random.default_rng(seed)
  rows = np.sort(random.permutation(len(source.labels))[:2000])
  images = np.asarray(take(source.images, rows), np.float32) / np.float32(255)
  if size is not None:
    images = tf.image.resize(images, (size, size), antialias=True).numpy()
  pixels = images.reshape(-1, images.shape[-1])
  pixels = pixels[random.permutation(len(pixels))[:PIXELS]]
  distinct = len(np.unique(pixels, axis=0))
  if distinct < 2:
    raise ValueError(f"expected images of at least 2 colors, got {distinct}")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    found = KMeans(min(palette_size, distinct), n_init=4, random_state=seed).fit(pixels).cluster_centers_
  return np.clip(found[np.argsort(found.sum(-1), kind="stable")], 0, 1).astype(np.float32)
