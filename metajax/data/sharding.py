"""The rows of a batch that each host reads."""

from collections.abc import Callable

import numpy as np

from metajax import checks
from metajax.shards import check_shard, host_slice
from metajax.types import Batch, Batches

ENDLESS = 2**63 - 1  # the last step that 64 bits can count


def rows_of_host(start: int, shard: tuple[int, int], rows: int, name: str) -> tuple[int, int]:
  """The first of a host's rows of a global batch, and their number."""
  host, hosts = check_place(start, shard)
  checks.count("start", start, 0, ENDLESS // rows)  # later rows overflow 64 bits
  if rows % hosts:
    raise ValueError(f"expected {name} that {hosts} hosts divide, got {rows}")
  return host * (rows // hosts), rows // hosts


def mask_of_host(start: int, shard: tuple[int, int], batch_size: int) -> np.ndarray:
  """Whether each row of a global batch is the host's, bool `[batch_size]`."""
  offset, local = rows_of_host(start, shard, batch_size, "batch_size")
  place = np.arange(batch_size)
  return (place >= offset) & (place < offset + local)


def in_order_of(count: int, batch_size: int, batch: Callable[[np.ndarray], Batch]) -> Batches:
  """Finite batches of all of `count` rows once, in order; `batch` makes the batch of a host's rows."""
  checks.count("batch_size", batch_size)

  def batches(start=0, shard=(0, 1)):
    check_place(start, shard)
    return read(start, shard)

  def read(start, shard):
    for first in range(start * batch_size, count, batch_size):
      rows = np.arange(first, min(first + batch_size, count))
      yield batch(rows[host_slice(len(rows), shard)])

  return batches


def check_place(start: int, shard: tuple[int, int]) -> tuple[int, int]:
  """Checks a start and a shard, and returns the host and the number of hosts; raises ValueError if out of range."""
  checks.count("start", start, 0, ENDLESS)
  return check_shard(shard)
