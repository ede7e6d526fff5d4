"""Hosts: processes that run one program together, each with devices and data of its own.

Every function here is also right for a single host, where it costs nothing.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from metajax.mesh.heartbeat import watch

_SEVERAL = {  # what a launcher says of the number of its processes
  "SLURM": "SLURM_STEP_NUM_TASKS",
  "Open MPI": "OMPI_COMM_WORLD_SIZE",
}
_asked = 0  # how often `preemption_requested` was asked, alike on all hosts


def initialize_distributed(
  coordinator: str | None = None,
  hosts: int | None = None,
  host: int | None = None,
  *,
  dead_after: int = 60,
  wait: int = 300,
) -> bool:
  """Makes this process one of several hosts, if a cluster or the arguments say so; before JAX is used otherwise.

  Without arguments a TPU pod, SLURM and Open MPI are found by what they tell their processes; a process on its own
  stays so. A process that dies ends all others within seconds, with status 3 and a line that names it; a machine that
  falls silent does after `dead_after` seconds, by JAX's coordination service.

  Args:
    coordinator: "address:port" of host 0, or "auto": asks the cluster (and fails where there is none).
    hosts: how many.
    host: which of them this one is, from 0.
    dead_after: seconds without a sign of life after which a host is taken for dead.
    wait: seconds to wait for the others to come.

  Returns:
    Whether there are several hosts.

  Raises:
    ValueError: if the three are given in part, or are out of range.
    RuntimeError: if the others do not come, or JAX was used before.
  """
  found = _found_cluster()
  if coordinator is None and hosts is None and host is None and not found:
    return False
  asks = coordinator == "auto" or (coordinator is None and found)
  address, number, own = (None, None, None) if asks else _checked(coordinator, hosts, host)
  if number == 1:
    return False
  jax.distributed.initialize(
    address,
    number,
    own,
    initialization_timeout=wait,
    heartbeat_timeout_seconds=dead_after,
    shutdown_timeout_seconds=wait,
  )
  if jax.process_count() > 1:
    watch(address.rsplit(":", 1)[0] if address else None, broadcast_from_primary)
  return jax.process_count() > 1


def _checked(coordinator: str | None, hosts: int | None, host: int | None) -> tuple[str, int, int]:
  if coordinator is None or hosts is None or host is None:
    given = {"coordinator": coordinator, "hosts": hosts, "host": host}
    missing = [name for name, value in given.items() if value is None]
    raise ValueError(f"expected a coordinator, hosts and host, or none of them, got no {' and no '.join(missing)}")
  if not 0 <= host < hosts:
    raise ValueError(f"expected a host of 0 to {hosts - 1}, one of {hosts}, got {host}")
  port = coordinator.rpartition(":")[2]
  if not (":" in coordinator and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 2**16):
    raise ValueError(f"expected a coordinator address:port, got {coordinator!r}")
  return coordinator, hosts, host


def process_shard() -> tuple[int, int]:
  """`(host, hosts)`: which share of every batch this host is to read, as `batches(start, shard)` takes it."""
  return jax.process_index(), jax.process_count()


def host_batches(batches: Callable) -> Iterable:
  """This host's share of `batches(start, shard)` from the first on; a single host asks for `batches()`."""
  return batches() if jax.process_count() == 1 else batches(0, process_shard())


def round_up_to_hosts(rows: int) -> int:
  """The least number of rows, of so many at least, that the hosts divide: the size of an evaluation's batch."""
  return -(-rows // jax.process_count()) * jax.process_count()


def is_primary_host() -> bool:
  """Whether this is host 0, the one that prints and writes what is there once."""
  return jax.process_index() == 0


def broadcast_from_primary(make: Callable[[], Any]) -> Any:
  """What `make()` gives on host 0, a value that JSON has, on all hosts.

  Raises:
    ValueError, OSError: that `make` raises there, on all of them.
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


def barrier(name: str):
  """Waits until every host has come here; files that host 0 wrote before are then there for all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def preemption_requested() -> bool:
  """Whether the hosts are to stop now: one of them was sent SIGTERM. All are told so at the same call.

  It is asked equally often on all hosts, such as once a step. On a single host it is False: there signals are heard
  by whoever runs the program.
  """
  global _asked
  if jax.process_count() == 1:
    return False
  _asked += 1
  return multihost_utils.reached_preemption_sync_point(_asked)


def _found_cluster() -> bool:
  several = any(
    os.environ.get(name, "1").isdigit() and int(os.environ.get(name, "1")) > 1 for name in _SEVERAL.values()
  )
  return several or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
