"""Palettes: the few colours that stand for all of some pictures, by k-means of scikit-learn."""

import warnings

import numpy as np

from metajax.data.pictures import take

PIXELS = 20000  # that a palette is learned from


def learn_palette(source, colours: int = 16, *, seed: int = 0) -> np.ndarray:
  """The centres of k-means on pixels of a source's pictures: float32 `[colours, channels]` in [0, 1], by brightness.

  Where the pictures have fewer values than that there are as many colours as values.

  Args:
    source: a `Source`.
    colours: at most, at least 2.
    seed: of the pixels that are looked at, and of k-means.

  Raises:
    ValueError: if `colours` is below 2, or all pixels are alike.
  """
  from sklearn.cluster import KMeans
  from sklearn.exceptions import ConvergenceWarning

  if colours < 2:
    raise ValueError(f"expected at least 2 colours, got {colours}")
  random = np.random.default_rng(seed)
  rows = np.sort(random.permutation(len(source.labels))[:2000])
  pixels = np.asarray(take(source.images, rows)).reshape(-1, source.images.shape[-1])
  pixels = pixels[random.permutation(len(pixels))[:PIXELS]] / np.float32(255)
  distinct = len(np.unique(pixels, axis=0))
  if distinct < 2:
    raise ValueError(f"expected pictures of at least 2 colours, got {distinct}")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    found = KMeans(min(colours, distinct), n_init=4, random_state=seed).fit(pixels).cluster_centers_
  return np.clip(found[np.argsort(found.sum(-1), kind="stable")], 0, 1).astype(np.float32)
