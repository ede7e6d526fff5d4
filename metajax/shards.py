"""The rows of a batch on each host: a shard is `(host, hosts)`, as in `batches(start, shard)`."""

import operator


def check_shard(shard: tuple[int, int]) -> tuple[int, int]:
  """Checks a shard, and returns the host and the number of hosts as ints.

  Raises:
    ValueError: if it is not a valid shard; the message quotes it.
  """
  try:
    host, hosts = map(operator.index, shard)
  except (TypeError, ValueError):
    raise ValueError(f"expected a shard (host, hosts) of two whole numbers, got {shard!r}") from None
  if not 0 <= host < hosts:
    raise ValueError(f"expected a shard (host, hosts) with 0 <= host < hosts, got {shard}")
  return host, hosts


def host_slice(rows: int, shard: tuple[int, int]) -> slice:
  """The slice of `rows` rows, any number, that belongs to host `shard[0]` of `shard[1]`.

  Raises:
    ValueError: if it is not a valid shard; the message quotes it.
  """
  host, hosts = check_shard(shard)
  return slice(host * rows // hosts, (host + 1) * rows // hosts)
