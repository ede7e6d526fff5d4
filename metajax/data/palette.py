"""Color palettes of images, by scikit-learn's k-means."""

import warnings

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.lazy_images import take
from metajax.data.source import MOST_PIXELS, ImageDataset, check_source

PIXELS = 20000  # number of pixels that k-means is fitted to


def fit_palette(source: ImageDataset, palette_size: int = 16, *, size: int | None = None, seed: int = 0) -> np.ndarray:
  """Fits a color palette by k-means to 20,000 pixels of a source's images.

  Args:
    source: an `ImageDataset`.
    palette_size: largest number of colors, 2 to 256; fewer if the pixels have fewer distinct values.
    size: side to which images are resized first, as by `augment.palette.to_palette`; by default they keep their size.
    seed: seed of the choice of pixels and of k-means.

  Returns:
    The cluster centers, float32 `[palette_size, channels]` in [0, 1], sorted by brightness.

  Raises:
    ValueError: if `palette_size` is out of range, or all pixels are equal.
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
