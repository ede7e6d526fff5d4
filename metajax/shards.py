"""Which rows of a batch are a host's: a shard is `(host, hosts)`, as `batches(start, shard)` takes it."""

import operator


def check_shard(shard: tuple[int, int]) -> tuple[int, int]:
  """The host and the number of hosts.

  Raises:
    ValueError: quoting what is no shard.
  """
  try:
    host, hosts = map(operator.index, shard)
  except (TypeError, ValueError):
    raise ValueError(f"expected a shard (host, hosts) of two whole numbers, got {shard!r}") from None
  if not 0 <= host < hosts:
    raise ValueError(f"expected a shard (host, hosts) with 0 <= host < hosts, got {shard}")
  return host, hosts


def host_slice(rows: int, shard: tuple[int, int]) -> slice:
  """Which of some rows, of any number, are those of host `shard[0]` of `shard[1]`.

  Raises:
    ValueError: quoting what is no shard.
  """
  host, hosts = check_shard(shard)
  return slice(host * rows // hosts, (host + 1) * rows // hosts)
