"""Some pictures of a source: chosen by row, dealt out class by class, or all of them in order."""

from collections.abc import Sequence

import numpy as np

from metajax import checks
from metajax.data.episodes import check_place
from metajax.data.pictures import take
from metajax.data.sources import check_source
from metajax.types import Examples


def select_rows(source, rows):
  """The pictures of some rows, in the order given; classes keep their numbers, and may be left without a picture.

  Raises:
    ValueError: `rows` are not unique indices of the source's pictures.
  """
  check_source(source)
  rows = np.asarray(rows)
  if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
    raise ValueError(f"expected some unique rows from 0 to {len(source.labels) - 1}, got {checks.describe(rows)}")
  rows = rows.astype(np.int64)
  if not len(rows) or rows.min() < 0 or rows.max() >= len(source.labels) or len(np.unique(rows)) < len(rows):
    raise ValueError(f"expected some unique rows from 0 to {len(source.labels) - 1}, got {len(rows)} rows")
  return source._replace(
    images=take(source.images, rows), labels=source.labels[rows], styles=tuple(source.styles[row] for row in rows)
  )


def deal_pictures(source, shares: Sequence[float], *, seed=0):
  """Parts of a source with a share of the pictures of every class, at least one of each, drawn by the seed.

  Args:
    source: a `Source`.
    shares: of each part, above 0, of a sum of at most 1; those of a class are rounded.
    seed: any integer of at least 0.

  Returns:
    a `Source` for each share, its pictures in the order of the source. No two have a picture in common.

  Raises:
    ValueError: the shares are out of range, or a class has too few pictures.
  """
  check_source(source)
  checks.count("seed", seed, 0)
  for share in shares:
    checks.in_range("each of the shares", share, 0, 1)
  if not len(shares) or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
    raise ValueError(f"expected shares above 0 of a sum of at most 1, got {list(shares)}")
  random = np.random.default_rng(seed)
  dealt = [[] for _ in shares]
  for label, name in enumerate(source.classes):
    rows = random.permutation(np.flatnonzero(source.labels == label))
    if not len(rows):
      continue
    ends = np.rint(np.cumsum(shares) * len(rows)).astype(int)
    ends = np.minimum(ends, len(rows) - np.arange(len(shares))[::-1])  # room for what comes after
    for i in range(len(ends)):  # at least one of each, pushing on what comes after
      ends[i:] = np.maximum(ends[i:], (ends[i - 1] if i else 0) + 1)
    if ends[-1] > len(rows):
      raise ValueError(f"expected at least {len(shares)} pictures of every class, got {len(rows)} of {name!r}")
    for part, chosen in zip(dealt, np.split(rows, ends)[: len(shares)], strict=True):
      part.append(chosen)
  return [select_rows(source, np.sort(np.concatenate(rows))) for rows in dealt]


def share_of(rows, shard):
  """Which of some rows, of any number, are those of host `shard[0]` of `shard[1]`: a slice."""
  host, hosts = check_place(0, shard)
  return slice(host * rows // hosts, (host + 1) * rows // hosts)


def in_order(source, *, batch_size):
  """Every picture of a source once, in its order: an evaluation's batches, which end.

  Args:
    source: a `Source`.
    batch_size: pictures a batch; the last batch may have fewer.

  Returns:
    `batches(start=0, shard=(0, 1))`, an iterator from batch `start` on of the `Examples` of host `shard[0]` of
    `shard[1]`, whose rows of a batch follow each other: inputs float32 `[rows, height, width, channels]` in [0, 1],
    labels integers `[rows]`. Of a short batch a host may have none.

  Raises:
    ValueError: `batch_size` is less than 1.
  """
  check_source(source)
  checks.count("batch_size", batch_size)

  def batches(start=0, shard=(0, 1)):
    check_place(start, shard)
    return _in_order(start, shard)

  def _in_order(start, shard):
    for first in range(start * batch_size, len(source.labels), batch_size):
      rows = np.arange(first, min(first + batch_size, len(source.labels)))
      rows = rows[share_of(len(rows), shard)]
      yield Examples(np.float32(np.asarray(take(source.images, rows))) / np.float32(255), source.labels[rows])

  return batches
