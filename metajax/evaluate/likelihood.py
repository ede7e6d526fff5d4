"""Log-likelihood of data sets, with confidence intervals."""

from collections.abc import Callable, Sequence

import numpy as np

from metajax import checks
from metajax.evaluate.embed import embed_dataset
from metajax.evaluate.statistics import Score, student_t
from metajax.types import Examples, Params, State


def dataset_log_prob(
  of: Callable, params: Params, state: State, rows: np.ndarray, *, batch_size: int = 64
) -> np.ndarray:
  """The log probability of every token of every row, computed in batches: `[n, ...] -> [n, tokens]`, in nats.

  Args:
    of: `(params, state, rows) -> [n, tokens]`, e.g. `learners.log_prob(network)`.
    params, state: those of the trained network.
    rows: tokens `[n, ...]`.
    batch_size: rows per batch.

  Returns:
    Log probabilities, float32 `[n, tokens]`.

  Raises:
    ValueError, FloatingPointError, RuntimeError: as for `embed_dataset`; ValueError also if `batch_size` is below 1.
  """
  checks.count("batch_size", batch_size)
  starts = range(0, len(rows), batch_size)
  return embed_dataset(of, params, state, [_unlabeled(rows[i : i + batch_size]) for i in starts]).inputs


def ratio_with_interval(totals: Sequence[float], counts: Sequence[float]) -> Score:
  """A ratio of two sums over texts, e.g. bits over tokens, with its 95% interval over texts.

  The interval is that of a ratio estimate, `t sqrt(n / (n - 1) sum (total_i - ratio count_i)^2) / sum count_i`.

  Args:
    totals: numerator of each text, `[n]`.
    counts: denominator of each text, `[n]`, above 0.

  Returns:
    A `Score`: the ratio, its interval, and the ratio of each text.

  Raises:
    ValueError: if there are fewer than 2 texts, or a count is not above 0.
    FloatingPointError: if a total or a count is not finite; the message names its text.
  """
  bits = checks.to_numpy("totals", totals, ..., dtype=np.float64)
  sizes = checks.to_numpy("counts", counts, ..., dtype=np.float64)
  checks.finite("the totals of texts", bits, error=FloatingPointError)
  checks.finite("the counts of texts", sizes, error=FloatingPointError)
  if bits.shape != sizes.shape or bits.ndim != 1 or len(bits) < 2 or not (sizes > 0).all():
    raise ValueError(f"expected totals and counts above 0 of at least 2 texts, got {bits.shape} and {sizes.shape}")
  ratio, n = bits.sum() / sizes.sum(), len(bits)
  spread = np.sqrt(n / (n - 1) * np.square(bits - ratio * sizes).sum())
  return Score(float(ratio), float(student_t(n - 1) * spread / sizes.sum()), bits / sizes)


def _unlabeled(rows):
  return Examples(rows, np.zeros(len(rows), np.int32))
