"""Which rows of a batch a host reads."""

import operator

from metajax import checks

ENDLESS = 2**63 - 1  # the last step that 64 bits can count


def rows_of_host(start, shard, rows, name):
  """The first of a host's rows of a global batch, and how many they are."""
  host, hosts = check_place(start, shard)
  checks.count("start", start, 0, ENDLESS // rows)  # later ones have no number
  if rows % hosts:
    raise ValueError(f"expected {name} that {hosts} hosts divide, got {rows}")
  return host * (rows // hosts), rows // hosts


def check_place(start, shard):
  """The host and the number of hosts, where a step and they can be.

  Raises:
    ValueError: quoting what cannot be.
  """
  checks.count("start", start, 0, ENDLESS)
  try:
    host, hosts = map(operator.index, shard)
  except (TypeError, ValueError):
    raise ValueError(f"expected a shard (host, hosts) of two whole numbers, got {shard!r}") from None
  if not 0 <= host < hosts:
    raise ValueError(f"expected a shard (host, hosts) with 0 <= host < hosts, got {shard}")
  return host, hosts


def share_of(rows, shard):
  """Which of some rows, of any number, are those of host `shard[0]` of `shard[1]`: a slice."""
  host, hosts = check_place(0, shard)
  return slice(host * rows // hosts, (host + 1) * rows // hosts)
