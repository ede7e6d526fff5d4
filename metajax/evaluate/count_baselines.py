"""Count-based baselines for generative models: bigrams of tokens, and independent pixels."""

from typing import NamedTuple

import numpy as np

from metajax import checks

STRENGTHS = tuple(2.0**e for e in range(-6, 15, 2))  # of smoothing, in counts


class CountModel(NamedTuple):
  """The log probabilities of test data under a count-based model.

  Attributes:
    log_prob: log probability of each token of each row, in nats; 0 for padding.
    chosen: the smoothing strengths, chosen on validation data.
  """

  log_prob: np.ndarray
  chosen: tuple[float, ...]


def bigram(train: np.ndarray, validation: np.ndarray, test: np.ndarray, vocab_size: int) -> CountModel:
  """A bigram model, smoothed by the counts of single tokens:

      p(b | a) = (count(a b) + k p(b)) / (count(a) + k),   p(b) = (count(b) + s) / (all + s vocabulary)

  The strengths `k` and `s` maximize the mean log probability of validation rows.

  Args:
    train, validation, test: tokens `[rows, length + 1]`; a row is padding from its first -1 on.
    vocab_size: number of tokens in the vocabulary.

  Returns:
    A `CountModel` of `test[:, 1:]`.

  Raises:
    ValueError: if a part has no pair of tokens, a token is out of the vocabulary, or a token follows padding.
  """
  for name, rows in (("train", train), ("validation", validation), ("test", test)):
    _check_tokens(name, rows, vocab_size)
  before, after = _pairs(train)
  singles = np.bincount(after, minlength=vocab_size)
  firsts = np.bincount(before, minlength=vocab_size)
  pairs, counts = np.unique(before.astype(np.int64) * vocab_size + after, return_counts=True)

  def probabilities(rows, k, s):
    a, b = _pairs(rows)
    wanted = a.astype(np.int64) * vocab_size + b
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    together = np.where(pairs[place] == wanted, counts[place], 0)
    alone = (singles[b] + s) / (singles.sum() + s * vocab_size)
    return np.log((together + k * alone) / (firsts[a] + k))

  found = {(k, s): probabilities(validation, k, s).mean() for k in STRENGTHS for s in STRENGTHS}
  chosen = max(found, key=found.__getitem__)
  whole = np.zeros(test[:, 1:].shape)
  whole[test[:, 1:] >= 0] = probabilities(test, *chosen)
  return CountModel(whole, chosen)


def independent_pixels(train: np.ndarray, validation: np.ndarray, test: np.ndarray, palette_size: int) -> CountModel:
  """An independent distribution of colors per pixel, smoothed by the counts over all pixels:

      p_i(x) = (count_i(x) + k p(x)) / (rows + k),   p(x) = (count(x) + 1) / (all + colors)

  The strength `k` maximizes the mean log probability of validation rows.

  Args:
    train, validation, test: palette indices `[rows, pixels]`.
    palette_size: number of colors.

  Returns:
    A `CountModel` of `test`.

  Raises:
    ValueError: if a part has no row, rows differ in length, or a color is out of range.
  """
  for name, rows in (("train", train), ("validation", validation), ("test", test)):
    checks.integers(f"{name} colors", rows, "rows", np.shape(train)[-1] if np.ndim(train) else "pixels", low=0,
                    high=palette_size)  # fmt: skip
    if not np.size(rows):
      raise ValueError(f"expected {name} rows of pixels, got {list(np.shape(rows))}")
  own = np.stack([np.bincount(place, minlength=palette_size) for place in train.T])
  everywhere = (own.sum(0) + 1) / (own.sum() + palette_size)
  places = np.arange(train.shape[1])

  def probabilities(rows, k):
    return np.log((own[places, rows] + k * everywhere[rows]) / (len(train) + k))

  found = {k: probabilities(validation, k).mean() for k in STRENGTHS}
  chosen = max(found, key=found.__getitem__)
  return CountModel(probabilities(test, chosen), (chosen,))


def _check_tokens(name: str, rows: np.ndarray, vocab_size: int):
  checks.integers(f"{name} tokens", rows, "rows", "length + 1", low=-1, high=vocab_size)
  late = np.flatnonzero(((rows[:, :-1] < 0) & (rows[:, 1:] >= 0)).any(-1))
  if late.size:
    raise ValueError(f"expected padding only at the ends of {name} rows, got a token after it in row {late[0]}")
  if not (rows[:, 1:] >= 0).any():
    raise ValueError(f"expected {name} rows of two tokens or more, got {list(rows.shape)} without a pair")


def _pairs(rows):
  there = rows[:, 1:] >= 0
  return rows[:, :-1][there], rows[:, 1:][there]
