"""Multi-host programs: processes that run one program together, each with its local devices and data.

Every function here also works on a single host, at no cost.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

LONGEST = 300  # bytes of a difference between hosts
_asked = 0  # number of calls of `preemption_requested`, equal on all hosts


def process_shard() -> tuple[int, int]:
  """Returns `(host, hosts)`: the `shard` argument of `batches(start, shard)` for this host."""
  return jax.process_index(), jax.process_count()


def host_batches(batches: Callable) -> Iterable:
  """Returns this host's share of `batches(start, shard)` from batch 0; a single host calls `batches()`."""
  return batches() if jax.process_count() == 1 else batches(0, process_shard())


def round_up_to_hosts(rows: int) -> int:
  """Rounds an evaluation batch size up to a multiple of the number of hosts."""
  return -(-rows // jax.process_count()) * jax.process_count()


def is_primary_host() -> bool:
  """Returns True on host 0, which does all printing and writing."""
  return jax.process_index() == 0


def broadcast_from_primary(make: Callable[[], Any]) -> Any:
  """Calls `make()` on host 0 and returns its result, a JSON value, on all hosts.

  Raises:
    ValueError, OSError: if `make` raises one on host 0; it is raised on all hosts.
  """
  if jax.process_count() == 1:
    return make()
  said = {}
  if is_primary_host():
    try:
      said["value"] = make()
    except (ValueError, OSError) as error:
      said |= {"error": str(error), "of": "OSError" if isinstance(error, OSError) else "ValueError"}
  content = np.frombuffer(json.dumps(said).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
  content = content if is_primary_host() else np.zeros(size, np.uint8)
  said = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(content))))
  if "error" in said:
    raise {"OSError": OSError, "ValueError": ValueError}[said["of"]](said["error"])
  return said["value"]


def check_same_on_hosts(values: dict[str, Any]):
  """Checks that all hosts have the same values, which must be JSON types.

  Raises:
    ValueError: on every host, if one has another value than host 0; the message names host, entry and both values.
  """
  if jax.process_count() == 1:
    return
  first = broadcast_from_primary(lambda: values)
  own = json.loads(json.dumps(values))
  name = next((name for name in {**first, **own} if first.get(name) != own.get(name)), None)
  said = "" if name is None else f"{name} {own.get(name)!r} instead of {first.get(name)!r}"
  each = np.zeros(LONGEST, np.uint8)
  content = np.frombuffer(said.encode()[:LONGEST], np.uint8)
  each[: len(content)] = content
  for host, found in enumerate(multihost_utils.process_allgather(each)):
    if found.any():
      text = bytes(found[found > 0]).decode(errors="replace")
      raise ValueError(f"expected the same command on every host, but host {host} has {text}")


def barrier(name: str):
  """Waits until every host has called it; files that host 0 wrote before are then visible to all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def preemption_requested() -> bool:
  """Returns True if one of the hosts received SIGTERM; all hosts get the same answer at the same call.

  All hosts must call it equally often, e.g. once per step. It is False on a single host, where the program handles
  signals.
  """
  global _asked
  if jax.process_count() == 1:
    return False
  _asked += 1
  return multihost_utils.reached_preemption_sync_point(_asked)
