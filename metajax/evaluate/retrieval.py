"""Retrieval: recall at k by cosine."""

import numbers
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.evaluate.statistics import mean_and_ci

AT = (1, 5, 10)
AT_ONCE = 256  # texts or queries


class RetrievalRank(NamedTuple):
  """The rank of the nearest target of each query.

  Attributes:
    nearer: number of other candidates that are nearer, `[rows]`.
    equal: number of other candidates that are exactly as near, `[rows]`.
    own: number of targets that are exactly as near, at least 1, `[rows]`.
  """

  nearer: np.ndarray
  equal: np.ndarray
  own: np.ndarray

  def recall(self, k: int) -> np.ndarray:
    """The probability that a target is among the `k` nearest, with ties in random order: 0 to 1, `[rows]`.

    Embeddings that are all the same therefore score at chance.
    """
    missed = np.ones(len(self.nearer))
    for drawn in range(k):  # ties fill the remaining places by draws without replacement
      left = np.maximum(self.equal + self.own - drawn, 1)
      missed *= np.where(self.nearer + drawn < k, np.maximum(self.equal - drawn, 0) / left, 1)
    return 1 - missed


def rank(cosines: np.ndarray, own: np.ndarray) -> RetrievalRank:
  """The rank of the nearest target of each query.

  Args:
    cosines: `[rows, n]`, of each query with each candidate.
    own: columns of the targets of each query, `[rows, any number]`.

  Raises:
    FloatingPointError: if a cosine is not finite, since nothing is nearer than NaN; the message names its row.
  """
  checks.finite("cosines", cosines, error=FloatingPointError)
  best = np.take_along_axis(cosines, own, 1).max(-1, keepdims=True)
  other = np.ones(cosines.shape, bool)
  np.put_along_axis(other, own, False, 1)
  equal = cosines == best
  return RetrievalRank(((cosines > best) & other).sum(-1), (equal & other).sum(-1), (equal & ~other).sum(-1))


def unit(x: np.ndarray) -> np.ndarray:
  """Normalizes rows to length 1, float32; rows of zeros stay zero."""
  length = np.linalg.norm(np.asarray(x, np.float64), axis=-1, keepdims=True)  # squares of float32 fit in float64
  return np.asarray(x / np.where(length == 0, 1, length), np.float32)


def retrieval(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, at: Sequence[int] = AT) -> dict[str, dict]:
  """Recall at `k` in both directions, in percent: how often a match is among the `k` nearest by cosine.

  The query text has one match among all images. A query image may have several texts, and counts as found if any of
  them is among the `k` nearest of all texts (arXiv:1411.2539, 2103.00020). Ties are in random order, so embeddings
  that are all the same score at chance.

  Args:
    images: embeddings `[n, d]`.
    texts: embeddings `[m, d]`.
    owner: index of the image of each text, integers `[m]`; every image has at least one text.
    at: values of `k`.

  Returns:
    `{"text_to_image": {k: Score}, "image_to_text": {k: Score}}`, in percent over texts and over images.

  Raises:
    ValueError: if shapes do not match, there is no image, an image has no text, or a `k` is below 1.
    FloatingPointError: if an embedding is not finite; the message names its row.
  """
  images, texts = as_embeddings(images=images, texts=texts)
  owner = np.asarray(owner)
  if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or owner.shape != texts.shape[:1]:
    given = f"{list(images.shape)}, {list(texts.shape)} and {list(owner.shape)}"
    raise ValueError(f"expected images [n, d], texts [m, d] and the image of each text [m], got {given}")
  if owner.dtype.kind not in "iu" or not len(images) or set(np.unique(owner)) != set(range(len(images))):
    raise ValueError(f"expected a text for each of the {len(images)} images, got texts of {len(np.unique(owner))}")
  if not at or not all(isinstance(k, numbers.Integral) and k >= 1 for k in at):
    raise ValueError(f"expected recall at 1 or more, got {list(at)}")
  check_finite(images=images, texts=texts)
  images, texts = unit(images), unit(texts)
  of_texts = _ranks(texts, owner[:, None], images)
  order = np.argsort(owner, kind="stable")
  spans = np.split(order, np.cumsum(np.bincount(owner))[:-1])
  most = max(map(len, spans))
  own_texts = np.stack([np.resize(span, most) for span in spans])  # repeats texts of images that have fewer
  of_images = _ranks(images, own_texts, texts)

  def recall(found):
    return {k: mean_and_ci(100.0 * found.recall(k)) for k in at}

  return {"text_to_image": recall(of_texts), "image_to_text": recall(of_images)}


def as_embeddings(**embeddings: np.ndarray) -> Iterable[np.ndarray]:
  """The arrays as float32 NumPy arrays; raises if rows have no values."""
  found = {name: checks.to_numpy(name, rows, ..., dtype=np.float32) for name, rows in embeddings.items()}
  for name, rows in found.items():
    if rows.shape[-1:] == (0,):
      raise ValueError(f"expected {name} of at least 1 value a row, got an array of shape {list(rows.shape)}")
  return found.values()


def check_finite(**embeddings: np.ndarray):
  """Raises FloatingPointError if an embedding is not finite; the message names its row."""
  for name, rows in embeddings.items():
    checks.finite(f"the embeddings of {name}", rows, error=FloatingPointError)


def _ranks(rows, own, among) -> RetrievalRank:
  parts = [slice(i, i + AT_ONCE) for i in range(0, len(rows), AT_ONCE)]
  found = [rank(rows[part] @ among.T, own[part]) for part in parts]
  return RetrievalRank(*map(np.concatenate, zip(*found, strict=True)))
